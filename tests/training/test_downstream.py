"""Table 3 as an experiment: who is trained on, what the arms do, what a kill leaves behind, what the table says."""

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_cache import GE, SIEMENS, write_fake_cache
from tiny_bundle import DIRECT, LICENCE, MODELS, tiny_run
from typer.testing import CliRunner

from reacquire.imaging import Preprocessing
from reacquire.transforms import TargetPool
from training import loop
from training.cache import SliceCache
from training.cli import app
from training.config import Phase, TrainConfig
from training.downstream import DownstreamError, Request, run_downstream
from training.downstream import cell as cell_module
from training.downstream.arms import ARMS, intensified
from training.downstream.copies import counterfactual_copies, histogram_copies
from training.downstream.data import directions, training_cache
from training.downstream.table import as_text, legacy_rows_of, rows_of
from training.evaluation.downstream import downstream as report_section
from training.ingest import IngestError
from training.pack import Card, pack_bundle

SIZE = 32
SPLITS = ["train"] * 5 + ["val"] * 2 + ["test"] * 4
CONFIG = TrainConfig("segmenter", "smoke", "default", (Phase(4, 4, 1e-2),), checkpoint_every=1)


def untracked(items, _):
    return items


def pack(folder: Path, **how) -> Path:
    facts = {"preprocessing": Preprocessing(size=SIZE).to_dict(), **how}
    runs = {model: tiny_run(folder / "runs" / model, model, **facts) for model in MODELS}
    card = Card("tiny", "0.0.1", "random weights for tests", "2026-01-01")
    pack_bundle(folder / "tiny", card, runs, DIRECT, metrics={}, licence_file=LICENCE)
    return folder / "tiny"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven women, each scanned by both vendors."""
    folder = tmp_path_factory.mktemp("cohort")
    cache = write_fake_cache(folder / "cache", women=len(SPLITS), size=SIZE, splits=SPLITS)
    lines = [{"split": r.split, "patient_id": str(r.woman), "iap": r.iap} for r in cache.rows]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def cache(cohort: Path) -> SliceCache:
    from training.cache import open_cache

    return open_cache(cohort / "cache")


def run(cohort: Path, folder: Path, bundle: Path, *, resume: bool = False, cache: SliceCache | None = None, **how):
    from training.cache import open_cache

    request = Request(bundle, cohort, folder, CONFIG, **{"arms": ("counterfactuals",), "seeds": 1, **how})
    opened = open_cache(cohort / "cache") if cache is None else cache
    bar = nullcontext(lambda step, loss: None)
    return run_downstream(request, opened, resume=resume, bar=lambda steps, title: bar)


@pytest.fixture(scope="module")
def finished(cohort: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "out"
    run(cohort, folder, bundle)
    return folder


def test_nobody_is_trained_on_whom_it_is_tested_on(cache: SliceCache) -> None:
    for direction in directions(cache):
        women = [{row.woman for row in rows} for rows in (direction.train, direction.val, direction.test["GE"])]
        assert [len(w) for w in women] == [5, 2, 4]
        assert not women[0] & women[1] and not (women[0] | women[1]) & women[2]
        assert {row.split for row in direction.foreign} == {"train"}
        maker = {"GE": "GE MEDICAL SYSTEMS", "Siemens": "SIEMENS"}[direction.vendor]
        assert {row.iap["Manufacturer"] for row in direction.train + direction.val} == {maker}


def test_a_cohort_split_as_the_authors_did_is_validated_on_its_test_women_and_says_so(
    cohort: Path, cache: SliceCache, bundle: Path, tmp_path: Path
) -> None:
    rows = tuple(replace(row, masked=False) if row.split == "val" else row for row in cache.rows)
    papers = replace(cache, rows=rows)
    for direction in directions(papers):
        assert direction.val == direction.test[direction.vendor] != ()
    run(cohort, tmp_path / "out", bundle, cache=papers, arms=())
    document = json.loads((tmp_path / "out" / "downstream.json").read_text())
    assert document["measured_with"]["validated_on"] == "test"
    section = report_section(tmp_path / "out" / "downstream.json")
    assert any("chosen on the women that they are tested on" in caveat for caveat in section.caveats)


def test_copies_stand_beside_the_originals_with_their_labels(cache: SliceCache) -> None:
    rows = directions(cache)[0].train
    copies = np.zeros((2 * len(rows), SIZE, SIZE), np.float16)
    grown = training_cache(cache, rows, copies)
    assert [row.index for row in grown.rows] == list(range(3 * len(rows)))
    for i, row in enumerate(rows * 3):
        assert np.array_equal(grown.labels[i], cache.labels[row.index])
        assert np.array_equal(grown.images[i], cache.images[row.index] if i < len(rows) else copies[0])


def test_histogram_copies_have_another_womans_grey_values(cache: SliceCache) -> None:
    direction = directions(cache)[0]
    copies = histogram_copies(cache, direction, copies=1, track=untracked)
    assert copies.shape == (len(direction.train), SIZE, SIZE)
    foreign = {row.woman: np.sort(_normal(cache.images[row.index]), axis=None) for row in direction.foreign}
    for row, copy in zip(direction.train, copies, strict=True):
        found = np.sort(copy.astype(float), axis=None)
        near = {woman: np.abs(found - values).max() for woman, values in foreign.items()}
        assert min(near.values()) < 0.02
        assert min(near, key=near.get) != row.woman, "her own scan by the other vendor would be the truth"


def _normal(image: np.ndarray) -> np.ndarray:
    return Preprocessing(size=SIZE).forward(image.astype(np.float32)).values.astype(float)


class Editor:
    """In place of the networks: notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict, dict, int]] = []

    def edit(self, slices, target, *, seed, source):
        self.asked.append((dict(source), dict(target), seed))
        return slices * 3 + 1, dict(target)


def test_a_counterfactual_copy_is_normalised_and_knows_its_source(cache: SliceCache) -> None:
    direction, editor = directions(cache)[0], Editor()
    copies = counterfactual_copies(cache, direction, TargetPool.of([SIEMENS]), editor, copies=2, track=untracked)
    assert len(editor.asked) == 2 * len(direction.train), "one scan per woman"
    assert all(source == GE and target == SIEMENS for source, target, _ in editor.asked)
    np.testing.assert_allclose(copies[0], _normal(cache.images[direction.train[0].index]), atol=2e-3)
    assert np.array_equal(copies[: len(direction.train)], copies[len(direction.train) :])


def test_intensity_of_a_slice_does_not_depend_on_its_batch() -> None:
    images = torch.rand(40, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    whole = intensified(images, seed=1, step=2, items=range(40))
    assert torch.equal(whole[5:8], intensified(images[5:8], seed=1, step=2, items=[5, 6, 7]))
    assert not torch.equal(whole, intensified(images, seed=1, step=3, items=range(40)))
    untouched = sum(bool(torch.allclose(a, b, atol=1e-5)) for a, b in zip(images, whole, strict=True))
    # none of seven transforms is applied with a probability of 0.9 * 0.8 * 0.85**2 * 0.75 * 0.9 * 0.7 = 0.25
    assert 3 <= untouched <= 18
    assert whole.shape == images.shape


def test_every_arm_gets_the_same_steps_and_the_table_every_comparison(finished: Path) -> None:
    document = json.loads((finished / "downstream.json").read_text())
    assert document["measured_with"] == json.loads((finished / "experiment.json").read_text())
    assert document["measured_with"]["validated_on"] == "val"
    assert not any("tested on" in caveat for caveat in report_section(finished / "downstream.json").caveats)
    rows = document["rows"]
    keys = ["direction", "arm", "tissue", "dice", "difference_to_none", "p_holm", "seeds", "steps"]
    assert {tuple(row) for row in rows} == {tuple(keys)}
    assert {row["direction"] for row in rows} == {"GE->GE", "GE->Siemens", "Siemens->Siemens", "Siemens->GE"}
    assert len(rows) == 4 * 2 * 2
    assert {(row["steps"], row["seeds"]) for row in rows} == {(4, 1)}
    assert {(row["dice"]["n"], row["dice"]["unit"]) for row in rows} == {(4, "women")}
    assert all((row["p_holm"] is None) == (row["arm"] == "none") == (row["difference_to_none"] is None) for row in rows)
    legacy = document["legacy_rows"]
    assert len(legacy) == 4 * 2 * 4, "directions, arms, figures"
    assert {row["figure"] for row in legacy} == {
        "legacy_recall_background", "legacy_recall_breast-non-fgt", "legacy_recall_fibroglandular",
        "legacy_mean_dice_per_slice",
    }  # fmt: skip
    assert all(row["p_holm"] is None and 0 <= row["value"]["value"] <= 1 for row in legacy)
    assert all((row["arm"] == "none") == (row["difference_to_none"] is None) for row in legacy)
    cells = sorted(path.stem for path in (finished / "cells").iterdir())
    assert cells == ["GE-counterfactuals-0", "GE-none-0", "Siemens-counterfactuals-0", "Siemens-none-0"]
    assert not list((finished / "running").iterdir())
    results = [json.loads(path.read_text()) for path in (finished / "cells").iterdir()]
    assert all(1 <= result["best_step"] <= 4 and result["validation_loss"] > 0 for result in results)


def test_the_table_pairs_women_and_averages_seeds_first() -> None:
    def cell(arm: str, seed: int, fat: list[float | None]) -> dict:
        women = {str(w): [value, 0.5] for w, value in enumerate(fat)}
        return {"vendor": "GE", "arm": arm, "seed": seed, "steps": 7, "dice": {"Siemens": women}}

    cells = [
        cell("none", 0, [0.2, 0.4, None]), cell("none", 1, [0.4, 0.6, None]),
        cell("histogram", 0, [0.5, 0.7, 0.9]), cell("histogram", 1, [0.5, 0.7, None]),
    ]  # fmt: skip
    fat = {row["arm"]: row for row in rows_of(cells) if row["tissue"] == "fat"}
    assert fat["none"]["dice"]["value"] == pytest.approx(0.4)
    assert fat["none"]["dice"]["n"] == 2
    assert fat["histogram"]["dice"]["n"] == 3
    assert fat["histogram"]["difference_to_none"]["value"] == pytest.approx(0.2)
    assert fat["histogram"]["difference_to_none"]["n"] == 2
    assert fat["histogram"]["p_holm"] == pytest.approx(1.0), "0.5 of two sign flips, twice"
    assert (fat["none"]["seeds"], fat["none"]["steps"]) == (2, 7)
    assert "| GE->Siemens | histogram | fat | 0.700 (" in as_text(rows_of(cells))


def test_the_papers_own_figures_are_paired_likewise_and_never_mixed_with_what_lacks_them() -> None:
    def cell(arm: str, recall: list[float | None]) -> dict:
        women = {str(w): {"legacy_recall_fibroglandular": value} for w, value in enumerate(recall)}
        return {"vendor": "GE", "arm": arm, "seed": 0, "steps": 7, "legacy": {"Siemens": women}}

    none, other = cell("none", [0.2, 0.4, None]), cell("histogram", [0.5, 0.6, 0.9])
    rows = {row["arm"]: row for row in legacy_rows_of([none, other])}
    assert (rows["none"]["value"]["value"], rows["none"]["value"]["n"]) == (pytest.approx(0.3), 2)
    assert rows["histogram"]["difference_to_none"]["value"] == pytest.approx(0.25)
    assert rows["histogram"]["difference_to_none"]["n"] == 2
    del none["legacy"]
    assert legacy_rows_of([none, other]) == []


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = ["tests/training", "tests"]
import test_downstream as here
from training import loop
save, seen = loop.save_checkpoint, []
def save_and_die(*state):
    save(*state)
    seen.append(state)
    if len(seen) == 7:  # in the middle of the second cell
        os.kill(os.getpid(), signal.SIGKILL)
loop.save_checkpoint = save_and_die
here.run(*map(Path, sys.argv[1:4]))
"""


def test_a_killed_experiment_goes_on_and_ends_as_if_nobody_had_killed_it(
    cohort: Path, bundle: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, cohort, folder, bundle]
    died = subprocess.run(command, env={**os.environ, "PYTHONPATH": "."}, timeout=240)
    assert died.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    assert len(before) == 1
    with pytest.raises(DownstreamError, match="--resume"):
        run(cohort, folder, bundle)
    steps, save = [], loop.save_checkpoint
    monkeypatch.setattr(loop, "save_checkpoint", lambda *state: (steps.append(1), save(*state)))
    run(cohort, folder, bundle, resume=True)
    assert len(steps) == 4 * CONFIG.steps - 7, "no step that a checkpoint holds is made again"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for path in sorted(finished.rglob("*.json")):
        assert (folder / path.relative_to(finished)).read_bytes() == path.read_bytes(), path.name


def test_a_finished_one_is_left_alone(cohort: Path, bundle: Path, finished: Path, monkeypatch) -> None:
    monkeypatch.setattr("training.downstream.experiment.run_cell", lambda *_: pytest.fail("all is trained"))
    monkeypatch.setattr("training.downstream.experiment._training", lambda *_: pytest.fail("all is made"))
    assert run(cohort, finished, bundle, resume=True) == json.loads((finished / "downstream.json").read_text())["rows"]
    with pytest.raises(DownstreamError, match="other data, weights or options"):
        run(cohort, finished, bundle, seeds=2, resume=True)


def test_cohorts_that_cannot_serve_are_one_message(
    cohort: Path, cache: SliceCache, bundle: Path, tmp_path: Path
) -> None:
    siemens = tuple(row for row in cache.rows if row.iap["Manufacturer"] == "SIEMENS")
    for rows, message in (
        (siemens, "no training slice of GE with a mask"),
        (tuple(replace(row, masked=False) for row in cache.rows), "--masks"),
        (tuple(row for row in cache.rows if row.split != "val" or row in siemens), "no validation slice of GE"),
        (tuple(row for row in cache.rows if row.split != "train" or row.woman < 3), "fewer than a batch of 4"),
    ):
        with pytest.raises(DownstreamError, match=message):
            run(cohort, tmp_path / "out", bundle, cache=replace(cache, rows=rows))
    assert not (tmp_path / "out").exists()


def test_bundles_that_cannot_serve_are_one_message(
    cohort: Path, cache: SliceCache, bundle: Path, tmp_path: Path
) -> None:
    stranger = pack(tmp_path / "stranger", unseen={"ManufacturerModelName": ["Avanto"]})
    with pytest.raises(DownstreamError, match="no training patient has a complete protocol of SIEMENS that tiny knows"):
        run(cohort, tmp_path / "out", stranger)
    assert len(list((tmp_path / "out" / "cells").iterdir())) == 1, "the cells without counterfactuals are kept"
    other = replace(cache, preprocessing=Preprocessing(size=64).to_dict())
    with pytest.raises(DownstreamError, match="another preprocessing"):
        run(cohort, tmp_path / "other", bundle, cache=other)
    with pytest.raises(DownstreamError, match="no sound bundle"):
        run(cohort, tmp_path / "none", tmp_path)
    with pytest.raises(DownstreamError, match="no arm 'magic'"):
        run(cohort, tmp_path / "none", bundle, arms=("magic",))


def test_a_full_disk_is_one_message_and_finished_cells_are_kept(
    cohort: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = cell_module.replace_file, []

    def fills_up(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(cell_module, "replace_file", fills_up)
    with pytest.raises(IngestError, match=r"the disk is full; make room .* --resume"):
        run(cohort, tmp_path / "out", bundle, arms=("histogram",))
    assert [path.stem for path in (tmp_path / "out" / "cells").iterdir()] == ["GE-none-0"]


def test_the_command_line(cohort: Path, bundle: Path, tmp_path: Path) -> None:
    words = ["downstream", str(bundle), "--cohort", str(cohort), "--output", str(tmp_path / "out"), "--seeds", "1"]
    result = CliRunner().invoke(app, [*words, "--arms", "magic"])
    assert (result.exit_code, "no arm 'magic'" in result.output) == (1, True)
    result = CliRunner().invoke(app, [words[0], words[1], "--cohort", str(tmp_path), *words[4:]])
    assert (result.exit_code, "cannot be used" in result.output) == (1, True)
    result = CliRunner().invoke(app, [*words, "--preset", "smoke", "--steps", "2"])
    assert (result.exit_code, "fewer than a batch of 16" in result.output) == (1, True)
    assert set(ARMS) >= {"none", "intensity", "histogram", "counterfactuals"}
