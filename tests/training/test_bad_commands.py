"""``cohort``, ``pack`` and ``evaluate`` end in one line, too, whatever is wrong with what they are given."""

from pathlib import Path

from bad_disk import no_file_beyond
from tiny_bundle import MODELS, pack_tiny, tiny_run
from typer.testing import CliRunner

from reacquire.bundles.store import open_bundle
from training.cli import app


def refused(*words: str | Path) -> str:
    """The one line of a command that can't be done."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def runs(folder: Path, **facts) -> list[str | Path]:
    """Three finished runs, as options of ``pack``."""
    return [word for m in MODELS for word in (f"--{m}", tiny_run(folder / m, m, **facts))]


def test_a_cohort_on_a_full_disk_names_its_folder_and_begins_anew(tmp_path: Path) -> None:
    words = ("cohort", tmp_path / "phantom", "--women", 1, "--slices", 1, "--protocols", 1, "--workers", 1)
    with no_file_beyond(1000):
        assert "phantom can't be written (File too large); make room and repeat" in refused(*words)
    with no_file_beyond(1_500_000):  # of the cache's slices
        assert "phantom/cache: it could not be written" in refused(*words, "--size", 1024)
    assert (tmp_path / "phantom" / "manifest.jsonl").exists(), "what is simulated is kept"
    assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 0


def test_a_mode_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    words = ("cohort", tmp_path / "phantom", "--women", 1, "--slices", 1, "--workers", 1, "--mode", "magic")
    assert "not 'magic'" in refused(*words)


def test_a_run_that_has_not_finished_is_named(tmp_path: Path) -> None:
    finished = runs(tmp_path / "runs")
    for model in MODELS:
        record = tmp_path / "runs" / model / "network.json"
        record.rename(tmp_path / "kept")
        assert f"{record} is not there: no run has finished" in refused("pack", tmp_path / "bundle", *finished)
        (tmp_path / "kept").rename(record)
    (tmp_path / "runs" / "segmenter" / "weights.safetensors").write_bytes(b"cut")
    assert "segmenter/weights.safetensors can't be read" in refused("pack", tmp_path / "bundle", *finished)


def test_a_bundle_is_neither_altered_nor_left_in_part(tmp_path: Path) -> None:
    finished = runs(tmp_path / "runs")
    with no_file_beyond(4000):
        assert "bundle can't be written (" in refused("pack", tmp_path / "bundle", *finished)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert CliRunner().invoke(app, ["pack", str(tmp_path / "bundle"), *map(str, finished)]).exit_code == 0
    assert open_bundle(tmp_path / "bundle")
    assert "bundle exists and a bundle is never altered" in refused("pack", tmp_path / "bundle", *finished)


def test_what_pack_wants_to_know_is_asked_for(tmp_path: Path) -> None:
    patients = runs(tmp_path / "runs", synthetic=False)
    assert "--training-data" in refused("pack", tmp_path / "bundle", *patients)
    (tmp_path / "report.json").write_text("[1]")
    told = ("--training-data", "patients", "--metrics", tmp_path / "report.json")
    assert "report.json is no report.json of the evaluate command" in refused("pack", tmp_path / "b", *patients, *told)


def test_evaluate_names_a_cohort_that_it_can_not_use(tmp_path: Path) -> None:
    bundle = pack_tiny(tmp_path)
    assert "cannot be used" in refused("evaluate", bundle, "--cohort", tmp_path, "--output", tmp_path / "out")
