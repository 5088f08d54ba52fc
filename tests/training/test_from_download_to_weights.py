"""From a download to a training run: what ingest and split write is what the cache and the trainings read."""

from pathlib import Path

import duke_trees as trees
import numpy as np
import pytest
from duke_trees import Patient
from typer.testing import CliRunner

from training.cache import UNKNOWN, build_cache, open_cache
from training.cli import app
from training.config import PRESETS
from training.ingest import Request, ingest
from training.runs import training_rows

MARGIN = 1
SLICES = trees.SLICES - 2 * MARGIN


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients, eight of them with masks; the first has no echo time in her header."""
    root = tmp_path_factory.mktemp("download")
    patients = [Patient(n) for n in range(1, 13)]
    for patient in patients:
        trees.write_patient(root, "classic", patient, ("pre",), **({"EchoTime": None} if patient.number == 1 else {}))
    for patient in patients[-8:]:
        trees.write_nifti(root / "masks", patient)
    trees.write_clinical(root, patients)
    return root


def test_three_commands_from_a_download_to_a_run(download: Path, tmp_path: Path) -> None:
    data = tmp_path / "duke"
    output = run("ingest", download, data, "--masks", download / "masks", "--margin", MARGIN)
    assert f"12 patients, {12 * SLICES} slices, 8 patients with masks" in output
    run("split", data)
    run("train", "segmenter", "--cohort", data, "--run", tmp_path / "run", "--preset", "smoke", "--steps", "1")
    assert (tmp_path / "run" / "weights.safetensors").exists()
    cache = open_cache(data / "cache")
    assert len(cache.rows) == 12 * SLICES, "edge slices are left out"
    for row in cache.rows:
        known = set(np.unique(cache.labels[row.index]))
        assert known <= {0, 1, 2} if row.masked else known == {UNKNOWN}
        assert len(row.iap) == 8, "the spreadsheet completed the header"
    segmenter, predictor = (training_rows(PRESETS[model, "smoke"], cache) for model in ("segmenter", "predictor"))
    assert {row.masked for row in segmenter} == {True}
    assert len(segmenter) < len(predictor)


def test_a_manifest_that_is_not_split_is_not_cached(download: Path, tmp_path: Path) -> None:
    ingest(Request(download, tmp_path / "duke", margin=MARGIN))
    from reacquire.imaging import Preprocessing

    with pytest.raises(ValueError, match="reacquire-train split"):
        build_cache(tmp_path / "duke", tmp_path / "duke" / "cache", Preprocessing())
