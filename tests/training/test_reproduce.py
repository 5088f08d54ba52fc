"""``reacquire-train reproduce``: its order, what it skips, and the whole way once at its smallest size."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reacquire.phantom.cohort import SPLITS
from training.cli import app
from training.config import PRESETS
from training.ingest.manifest import read_lines
from training.reproduce import LOG, MODELS, SCALES, Plan, ReproduceError, reproduce, stages_of
from training.runs import encoding_of

ORDER = [
    "cohort", "ingest", "split", "train editor", "train predictor", "train segmenter", "pack", "downstream",
    "evaluate",
]  # fmt: skip
# Five women, each scanned once by either vendor: three train, one validates, one tests
TINY = {"preset": "smoke", "women": 5, "slices": 6, "protocols": 2, "seed": 250, "steps": 1, "workers": 1}


class Terminal:
    """Notes the commands; ``fails`` ends the command with this first word badly."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.commands, self.lines = fails, [], []

    def run(self, words) -> int:
        self.commands.append(list(words))
        return 3 if words[0] == self.fails else 0


def start(plan: Plan, terminal: Terminal):
    return reproduce(plan, terminal.run, terminal.lines.append)


def test_the_commands_come_in_order_and_are_printed_as_a_user_would_type_them(tmp_path: Path) -> None:
    terminal = Terminal()
    log = start(Plan(tmp_path / "out"), terminal)
    assert [entry["stage"] for entry in log] == ORDER
    assert terminal.lines[0] == (
        f"$ reacquire-train cohort {tmp_path}/out/phantom --women 60 --slices 4 --protocols 3 --seed 60 --workers 2"
    )
    assert len(terminal.lines) == len(terminal.commands) == len(ORDER)


def test_a_download_takes_the_place_of_the_simulation(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "out", "paper", data=tmp_path / "duke", masks=tmp_path / "masks")
    stages = {stage.name: stage.words for stage in stages_of(plan)}
    assert list(stages) == ORDER[1:]
    assert stages["ingest"][:5] == (
        "ingest",
        f"{tmp_path}/duke",
        f"{tmp_path}/out/data",
        "--masks",
        f"{tmp_path}/masks",
    )
    assert stages["split"] == ("split", f"{tmp_path}/out/data", "--mode", "paper")
    assert {s.name: s.words for s in stages_of(Plan(tmp_path / "out", "paper"))}["split"] == stages["split"][:2]
    assert stages["pack"][-2:] == ("--training-data", "The patients ingested from duke")
    assert stages["downstream"][4:8] == ("--output", f"{tmp_path}/out/downstream", "--preset", "paper")


def test_data_without_pairs_want_a_preset_that_needs_none_before_anything_is_run(tmp_path: Path) -> None:
    terminal = Terminal()
    with pytest.raises(ReproduceError, match=r"two-core learns from pairs.*duke.*PRESET=structure"):
        start(Plan(tmp_path / "out", "two-core", data=tmp_path / "duke"), terminal)
    assert terminal.commands == []
    assert not (tmp_path / "out").exists()
    simulated = tmp_path / "phantom"
    simulated.mkdir()
    (simulated / "manifest.jsonl").touch()
    assert stages_of(Plan(tmp_path / "out", "two-core", data=simulated))


@pytest.mark.parametrize("preset", SCALES)
def test_editor_and_predictor_are_of_one_layout_or_pack_refuses_them(preset: str, tmp_path: Path) -> None:
    stages = {stage.name: stage.words for stage in stages_of(Plan(tmp_path, preset))}
    editor, predictor = (PRESETS[m, stages[f"train {m}"][7]] for m in ("editor", "predictor"))
    assert editor.preset == preset
    assert encoding_of(editor).layout == encoding_of(predictor).layout


def test_patients_can_be_learned_from_with_another_editor_than_the_papers(tmp_path: Path) -> None:
    stages = {stage.name: stage.words for stage in stages_of(Plan(tmp_path, "structure", data=tmp_path / "duke"))}
    assert [stages[f"train {model}"][7] for model in MODELS] == ["structure", "paper", "paper"]
    assert "--mode" not in stages["split"]


def test_a_stage_that_fails_ends_it_and_the_next_run_begins_there(tmp_path: Path) -> None:
    plan, broken, whole = Plan(tmp_path / "out"), Terminal(fails="pack"), Terminal()
    with pytest.raises(ReproduceError, match=r"pack ended with status 3.*same command again"):
        start(plan, broken)
    start(plan, whole)
    assert [words[0] for words in whole.commands] == ["pack", "downstream", "evaluate"]


def test_other_options_are_refused(tmp_path: Path) -> None:
    start(Plan(tmp_path / "out"), Terminal())
    with pytest.raises(ReproduceError, match=r"begun with other options \(cohort: reacquire-train cohort .* 60"):
        start(Plan(tmp_path / "out", women=7), Terminal())


def test_a_full_disk_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(ReproduceError, match=r"No space left.*same command again"):
        start(Plan(tmp_path / "out"), Terminal())


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute or two where nobody else computes
def test_the_whole_way_and_a_second_run_redoes_nothing(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "out", **TINY)

    def in_process(words) -> int:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, (words, result.output, result.exception)
        return result.exit_code

    reproduce(plan, in_process, lambda _: None)
    lines = read_lines(plan.folder / "data")
    assert {line["woman"]: line["split"] for line in lines} == dict(enumerate(SPLITS[:5])), "their own splits survive"
    assert json.loads((plan.folder / "report.json").read_text())
    rows = json.loads((plan.folder / "downstream" / "downstream.json").read_text())["rows"]
    assert {row["arm"] for row in rows} == {"none", "intensity", "histogram", "counterfactuals"}
    before = {path: path.stat().st_mtime_ns for path in plan.folder.rglob("*")}
    reproduce(plan, lambda words: pytest.fail(f"{words[0]} is finished"), lambda _: None)
    assert {path: path.stat().st_mtime_ns for path in plan.folder.rglob("*")} == before
    (plan.folder / LOG).unlink()  # as if killed before anything was noted: the outputs speak for themselves
    start(plan, again := Terminal())
    assert again.commands == []
