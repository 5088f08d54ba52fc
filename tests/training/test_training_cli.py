"""The commands from nothing to a measured bundle, as a researcher types them, at the smallest size."""

import json
from itertools import chain
from pathlib import Path
from shutil import copytree

import pytest
from tiny_bundle import pack_tiny, tiny_run
from typer.testing import CliRunner

from reacquire.bundles.store import open_bundle
from training.cache import open_cache
from training.cli import app
from training.evaluation import metrics_of
from training.pack import DIRECT, Card, pack_bundle


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "cohort"
    run("cohort", folder, "--women", "5", "--slices", "3", "--protocols", "2", "--workers", "1")
    return folder


def test_the_cache_holds_the_cohort(cohort: Path) -> None:
    cache = open_cache(cohort / "cache")
    assert cache.images.shape == (30, 224, 224)
    assert cache.synthetic
    assert cache.cleans is not None
    women = {split: {row.woman for row in cache.split(split)} for split in ("train", "val", "test")}
    assert not (women["train"] & women["val"] | women["train"] & women["test"] | women["val"] & women["test"])
    assert all(len(row.iap) == 8 for row in cache.rows)


def test_a_cohort_that_was_not_cached_is_cached_and_a_finished_one_is_kept(cohort: Path) -> None:
    (cohort / "cache" / "index.json").rename(cohort / "index.bak")
    run("cohort", cohort, "--women", "5")
    assert (cohort / "cache" / "index.json").read_bytes() == (cohort / "index.bak").read_bytes()
    result = CliRunner().invoke(app, ["cohort", str(cohort), "--women", "5"])
    assert (result.exit_code, "holds a cache already; name another folder" in result.stderr) == (1, True)


def test_the_small_way_without_pairs_ends_in_a_bundle_that_edits(cohort: Path, tmp_path: Path) -> None:
    """The commands of docs/training.md for data without pairs; another layout is refused with its remedy."""
    small = tmp_path / "small"
    copytree(cohort, small, ignore=lambda folder, names: {"cache"} & set(names))
    run("cohort", small, "--women", "5", "--size", "64")
    presets = {"editor": "structure-two-core", "predictor": "paper-two-core", "segmenter": "paper-two-core"}
    for model, preset in presets.items():
        run("train", model, "--cohort", small, "--run", tmp_path / model, "--preset", preset, "--steps", "1")
    runs = {f"--{model}": tmp_path / model for model in presets}
    run("pack", tmp_path / "bundle", *chain(*runs.items()))
    editing = open_bundle(tmp_path / "bundle").manifest.editing
    assert (editing.method, editing.steps, editing.guidance_scale) == ("structure", 1, 2.0)
    assert "Nothing was measured" in (tmp_path / "bundle" / "docs" / "README.md").read_text()
    asked = ["--sections", "truth", "--pairs-per-woman", "1"]
    run("evaluate", tmp_path / "bundle", "--cohort", small, "--output", tmp_path / "report", *asked)
    run("train", "predictor", "--cohort", small, "--run", tmp_path / "ours", "--preset", "smoke", "--steps", "1")
    words = chain(*(runs | {"--predictor": tmp_path / "ours"}).items())
    result = CliRunner().invoke(app, ["pack", str(tmp_path / "odd"), *map(str, words)])
    assert result.exit_code == 1
    assert "predictor of preset paper" in " ".join(result.stderr.split())


def test_an_unknown_preset_is_answered_with_those_that_there_are() -> None:
    asked = ["train", "predictor", "--cohort", "x", "--run", "y", "--preset", "structure"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2
    assert "paper-two-core" in result.stderr
    assert "structure-two-core" not in result.stderr


def test_from_runs_to_a_measured_bundle(cohort: Path, tmp_path: Path) -> None:
    runs = []
    for model in ("editor", "predictor", "segmenter"):
        run("train", model, "--cohort", cohort, "--run", tmp_path / model, "--preset", "smoke", "--steps", "1")
        runs += [f"--{model}", tmp_path / model]
    run("pack", tmp_path / "first", *runs)
    report = tmp_path / "report" / "report.json"
    asked = ["--sections", "truth,judges", "--pairs-per-woman", "1"]
    run("evaluate", tmp_path / "first", "--cohort", cohort, "--output", report.parent, *asked)
    run("pack", tmp_path / "second", *runs, "--metrics", report, "--no-noise")
    info = open_bundle(tmp_path / "second")
    assert not info.manifest.editing.noise
    assert info.metrics == metrics_of(json.loads(report.read_text()))
    assert info.metrics["editor"]["gap_closed"] is not None
    assert not info.manifest.patient_data
    assert "Trio" in info.unseen["ManufacturerModelName"]
    assert "no patient data was seen" in (tmp_path / "second" / "docs" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sections", "gossip"), "no section gossip"),
        (("--anatomies", "."), "no label volumes"),
        (("--split", "all", "--radimagenet", "none.pt", "--sections", "distributions"), "none.pt does not exist"),
    ],
)
def test_what_evaluate_cannot_use_ends_in_one_message(cohort: Path, tmp_path: Path, words: tuple, message: str) -> None:
    bundle = pack_tiny(tmp_path)
    command = ["evaluate", bundle, "--cohort", cohort, "--output", tmp_path / "out", *words]
    result = CliRunner().invoke(app, [str(word) for word in command])
    assert result.exit_code == 1
    assert message in result.stderr


def test_runs_that_disagree_are_not_packed(tmp_path: Path) -> None:
    runs = {model: tiny_run(tmp_path / model, model) for model in ("editor", "predictor")}
    runs["segmenter"] = tiny_run(tmp_path / "segmenter", "segmenter", preprocessing={"size": 1})
    card = Card("x", "0.0.1", "", "2026-01-01")
    with pytest.raises(ValueError, match="preprocessing"):
        pack_bundle(tmp_path / "x", card, runs, DIRECT, metrics={}, licence_file=tmp_path)


def test_data_that_is_not_simulated_must_be_named(tmp_path: Path) -> None:
    runs = {m: tiny_run(tmp_path / m, m, synthetic=m != "editor") for m in ("editor", "predictor", "segmenter")}
    with pytest.raises(ValueError, match="say what the training data was"):
        pack_bundle(tmp_path / "x", Card("x", "0.0.1", "", "2026"), runs, DIRECT, metrics={}, licence_file=tmp_path)
