"""What goes wrong around a training ends in one line naming file and remedy, and keeps what was finished."""

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bad_disk import no_file_beyond
from fake_cache import write_fake_cache
from safetensors.torch import load_file
from tiny_bundle import tiny_run
from typer.testing import CliRunner

from reacquire.imaging import Preprocessing
from training.cache import build_cache, open_cache
from training.cli import app
from training.config import Phase, TrainConfig, TrainError
from training.ingest import IngestError
from training.runs import batches_of, run_training

TINY = TrainConfig("segmenter", "smoke", "default", (Phase(4, 4, 1e-3),), checkpoint_every=2)


def silent(step: int, loss: float) -> None:
    """No progress bar in tests."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_fake_cache(folder / "cache", women=40)
    return folder


def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on(cohort: Path, tmp_path: Path) -> None:
    whole = run_training(cohort / "cache", tmp_path / "whole", TINY, resume=False, report=silent)
    run = tmp_path / "run"

    def fill(step: int, loss: float) -> None:
        if step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    with pytest.raises(OSError, match=r"checkpoint.safetensors can't be written .*--resume"), no_file_beyond(2**40):
        run_training(cohort / "cache", run, TINY, resume=False, report=fill)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint.safetensors", "config.json", "losses.jsonl"]
    first = []
    resumed = run_training(cohort / "cache", run, TINY, resume=True, report=lambda step, loss: first.append(step))
    assert first == [2, 3]
    a, b = load_file(whole), load_file(resumed)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_losses_that_can_not_be_written_name_their_file(cohort: Path, tmp_path: Path) -> None:
    def fill(step: int, loss: float) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    with pytest.raises(OSError, match=r"losses.jsonl or .* can't be written .*--resume"), no_file_beyond(2**40):
        run_training(cohort / "cache", tmp_path, replace(TINY, seed=1), resume=False, report=fill)


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    line = {"patient_id": "p1", "woman": 0, "split": "train"}
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(line | {"split": s}) for s in ("train", "test")))
    with pytest.raises(IngestError, match=r"manifest.jsonl: p1 is in two splits .*split again"):
        build_cache(tmp_path, tmp_path / "cache", Preprocessing())
    assert not (tmp_path / "cache" / "index.json").exists()


def test_an_editor_that_would_learn_to_do_nothing_is_refused(tmp_path: Path) -> None:
    whole = write_fake_cache(tmp_path / "cache", size=64)
    index = json.loads((tmp_path / "cache" / "index.json").read_text())
    rows = [row | {"pair_group": f"{row['woman']}/{row['index']}"} for row in index["rows"]]  # as those of patients are
    (tmp_path / "cache" / "index.json").write_text(json.dumps(index | {"rows": rows}))
    pairs = TrainConfig("editor", "smoke", "default", (Phase(1, 4, 1e-3),))
    with pytest.raises(TrainError, match=r"preset smoke of the editor learns from pairs.*preset structure or paper"):
        run_training(tmp_path / "cache", tmp_path / "run", pairs, resume=False, report=silent)
    assert not (tmp_path / "run").exists()
    unpaired = open_cache(tmp_path / "cache")
    assert batches_of(replace(pairs, network="paper-small"), unpaired)
    assert batches_of(replace(pairs, model="predictor"), unpaired)
    assert batches_of(pairs, whole)


def refused(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in ("train", "segmenter", *words)])
    assert result.exit_code != 0
    (line,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    return line


def test_the_command_says_in_one_line_what_to_do(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("--cohort", cohort, "--run", tmp_path)
    assert "preset of smaller batches" in refused(*given, "--preset", "paper", "--steps", "1", "--accelerator", "cpu")
    assert "--precision 32-true" in refused(*given, "--precision", "16-mixed", "--accelerator", "cpu")
    assert "manifest.jsonl" in refused("--cohort", tmp_path, "--run", tmp_path)
    start = ("--cohort", cohort, "--accelerator", "cpu", "--steps", "1", "--run")
    foreign, broken = tiny_run(tmp_path / "predictor", "predictor") / "weights.safetensors", tmp_path / "broken"
    broken.write_bytes(b"no weights")
    assert f"{foreign} holds the tensors of another network" in refused(*start, tmp_path / "b", "--init", foreign)
    assert f"{broken} can't be read" in refused(*start, tmp_path / "c", "--init", broken)
    assert "none.st can't be read" in refused(*start, tmp_path / "d", "--init", tmp_path / "none.st")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert "pip install 'reacquire[tracking]'" in refused(*start, tmp_path / "e", "--track", "tensorboard")
