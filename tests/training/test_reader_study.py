"""The blinded page, its key, and the way back."""

import json
from pathlib import Path

import pytest
from fake_cache import write_fake_cache
from tiny_bundle import pack_tiny
from typer.testing import CliRunner

from reacquire.engine import Settings, load_pipeline
from reacquire.jobs.spec import Options
from training.cli import app
from training.evaluation import import_answers
from training.evaluation.bench import Bench
from training.evaluation.reader import make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    pipeline = load_pipeline(pack_tiny(folder / "bundle"))
    cache = write_fake_cache(folder / "cache", size=64, women=24)
    settings = Settings.of(Options(), pipeline.editor.setup)
    for name, text in make_study(Bench(pipeline, cache, cache.rows, settings), cases=20, seed=3).items():
        (folder / name).write_text(text)
    return folder


def key_of(study: Path) -> dict:
    return json.loads((study / "reader-key.json").read_text())


def answered(study: Path, folder: Path, reader: str, right: int, change: str = "no") -> Path:
    """An answer sheet that finds the first ``right`` real panels."""
    other = {"left": "right", "right": "left"}
    answers = [
        {"case": c["case"], "real": c["real"] if i < right else other[c["real"]], "quality_left": "4", "change": change}
        for i, c in enumerate(key_of(study)["cases"])
    ]
    sheet = {
        "format": "reacquire-reader-study/1",
        "study": key_of(study)["study"],
        "reader": reader,
        "answers": answers,
    }
    path = folder / f"{reader}.json"
    path.write_text(json.dumps(sheet))
    return path


def test_the_page_shows_every_case_and_never_the_key(study: Path) -> None:
    page = (study / "reader.html").read_text()
    assert page.count("<fieldset") == 20
    assert page.count("data:image/png") == 40
    assert not any(word in page for word in ("http:", "https:", "counterfactual", 'woman"', "seed"))


def test_sides_are_mixed_and_follow_the_seed(study: Path) -> None:
    sides = [c["real"] for c in key_of(study)["cases"]]
    assert 3 < sides.count("left") < 17


def test_accuracy_is_counted_against_the_key(study: Path, tmp_path: Path) -> None:
    sheets = [answered(study, tmp_path, "a", 20), answered(study, tmp_path, "b", 5, "minimal")]
    results = import_answers(study / "reader-key.json", sheets)
    assert results["readers"]["a"]["accuracy"]["value"] == 1
    assert results["readers"]["b"]["accuracy"]["value"] == 0.25
    assert results["all"]["accuracy"]["low"] < 0.625 < results["all"]["accuracy"]["high"]
    assert results["all"]["anatomical_change"]["minimal"]["count"] == 20
    assert results["agreement"][0]["same"] == 0.25


def test_the_command_writes_the_results(study: Path, tmp_path: Path) -> None:
    sheet = answered(study, tmp_path, "a", 10)
    words = ["reader-import", sheet, "--key", study / "reader-key.json", "--output", tmp_path / "results.json"]
    assert CliRunner().invoke(app, [str(w) for w in words]).exit_code == 0
    assert json.loads((tmp_path / "results.json").read_text())["all"]["accuracy"]["value"] == 0.5
    again = CliRunner().invoke(app, [str(w) for w in words])
    assert (again.exit_code, "results.json exists and nothing is overwritten" in again.stderr) == (1, True)


def test_sheets_of_another_study_or_reader_are_refused(study: Path, tmp_path: Path) -> None:
    sheet = answered(study, tmp_path, "a", 10)
    with pytest.raises(ValueError, match="answered already"):
        import_answers(study / "reader-key.json", [sheet, sheet])
    sheet.write_text(sheet.read_text().replace(key_of(study)["study"], "0" * 16))
    with pytest.raises(ValueError, match="another study"):
        import_answers(study / "reader-key.json", [sheet])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "reacquire-reader-study/1"}'])
def test_other_files_are_no_answers(study: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=r"x\.json is no answers file"):
        import_answers(study / "reader-key.json", [tmp_path / "x.json"])
