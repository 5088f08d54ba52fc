"""The evaluation on a cohort whose answers are known, and what it refuses."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_cache import write_fake_cache
from pydantic import TypeAdapter
from test_evaluation_parts import write_rows
from tiny_bundle import METHODS, pack_tiny

from reacquire.bundles.manifest import Manifest, SdeditSetup
from reacquire.engine import Pipeline, Settings, load_pipeline
from reacquire.iap import Record, load_vocabulary
from reacquire.imaging import Preprocessing
from reacquire.jobs.spec import Options
from training.cache import Row, SliceCache
from training.evaluation import Inputs, evaluate, metrics_of
from training.evaluation.bench import Bench, draw_pairs, draw_shuffled
from training.evaluation.document import Figure, Report
from training.evaluation.html import cell
from training.evaluation.versus import COMPARED, beside, versus
from training.ingest.problem import IngestError
from training.pack import PAPER
from training.statistics import Estimate

QUICK = ("truth", "axioms", "judges", "counterfactuals", "bands")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> SliceCache:
    return write_fake_cache(tmp_path_factory.mktemp("cohort") / "cache", size=64, women=10)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return replace(load_pipeline(pack_tiny(tmp_path_factory.mktemp("bundle"))), preprocessing=Preprocessing(size=64))


class Oracle:
    """An editor that knows the truth: a GE slice is a Siemens slice at twice the brightness."""

    def __init__(self, inner) -> None:
        self.setup, self.encoding = inner.setup, inner.encoding

    def edit(self, source, targets, seeds, settings, on_step=None, *, sources):
        def brightness(record: Record) -> float:
            return 2.0 if record["Manufacturer"] == "GE MEDICAL SYSTEMS" else 1.0

        ratios = [brightness(t) / brightness(s) for t, s in zip(targets, sources, strict=True)]
        return source * torch.tensor(ratios).view(-1, 1, 1, 1)


class Idle(Oracle):
    """An editor that does nothing."""

    def edit(self, source, targets, seeds, settings, on_step=None, *, sources):
        return source.clone()


@pytest.fixture(scope="module")
def report(pipeline: Pipeline, cache: SliceCache, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("report")
    oracle = replace(pipeline, editor=Oracle(pipeline.editor))
    return evaluate(oracle, cache, folder, Inputs(sections=QUICK)), folder


def value(report: Report, name: str) -> float:
    return report.figures["editor"][name].estimate.value


def test_an_oracle_closes_the_gap_up_to_noise(report: tuple[Report, Path]) -> None:
    assert value(report[0], "gap_closed") > 0.85
    assert value(report[0], "gap_ceiling") > 0.9
    assert value(report[0], "contrast_transfer_fibroglandular") == pytest.approx(1, abs=0.02)


def test_the_table_of_changed_parameters_has_a_row_per_parameter_and_no_other(report: tuple[Report, Path]) -> None:
    tables = [table for section in report[0].sections for table in section.tables]
    (table,) = (t for t in tables if t.title == "Agreement where the parameter changes, corrected for chance")
    assert {row[0] for row in table.rows} <= set(load_vocabulary().keywords)
    assert len(table.rows) == len({row[0] for row in table.rows}) > 0
    assert "effectiveness_ceiling_Manufacturer" in report[0].figures["editor"]


def by_category(report: Report) -> dict[str, tuple]:
    (table,) = (t for s in report.sections for t in s.tables if t.title == "Category by category")
    return {f"{row[0]}/{row[1]}": row[2:] for row in table.rows}


def test_rare_categories_are_told_apart(pipeline: Pipeline, cache: SliceCache, tmp_path: Path) -> None:
    def with_rare(row: Row) -> Row:  # one woman of the test split has what nobody else has
        return replace(row, iap=row.iap | {"MagneticFieldStrength": 3.0}) if row.woman == rare else row

    rare = cache.split("test")[0].woman
    odd = replace(cache, rows=tuple(map(with_rare, cache.rows)))
    rows = by_category(evaluate(pipeline, odd, tmp_path, Inputs(sections=("judges",))))
    assert [rows[f"MagneticFieldStrength/{field}"][1] for field in (1.5, 3.0)] == ["9", "1 (rare)"]
    assert rows["MagneticFieldStrength/3.0"][0].estimate.n == 1


def test_an_oracle_obeys_the_axioms(report: tuple[Report, Path]) -> None:
    assert value(report[0], "composition_error_5x") == pytest.approx(0, abs=1e-6)
    assert value(report[0], "reversibility_error") == pytest.approx(0, abs=1e-6)
    assert value(report[0], "edit_size") > 0.1


def test_what_is_lost_of_dice_is_the_paired_difference_to_the_re_scan(report: tuple[Report, Path]) -> None:
    lost = report[0].figures["editor"]["dice_lost"].estimate
    assert lost.n == 5
    assert lost.value == pytest.approx(value(report[0], "dice_true_target") - value(report[0], "dice_counterfactual"))
    assert lost.low <= lost.value <= lost.high
    assert any("anatomy" in answer.question and answer.figure.estimate == lost for answer in report[0].answers)


def test_every_figure_says_how_many_women_and_which_settings(report: tuple[Report, Path]) -> None:
    data = json.loads((report[1] / "report.json").read_text())
    figures = [figure for group in data["figures"].values() for figure in group.values()]
    assert len(figures) > 60
    assert all(figure["settings"] in data["settings"] and figure["unit"] for figure in figures)
    assert data["cohort"]["women"] == 5


def test_the_page_loads_nothing_and_shows_every_section(report: tuple[Report, Path]) -> None:
    page = (report[1] / "report.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:|#)', page) == []
    assert re.findall(r"url\(|@import|<script", page) == []
    assert all(f'href="#{name}"' in page and f'id="{name}"' in page for name in QUICK)


def test_a_manifest_takes_the_figures_of_a_report(report: tuple[Report, Path]) -> None:
    data = json.loads((report[1] / "report.json").read_text())
    groups = metrics_of(data)
    assert TypeAdapter(Manifest.model_fields["metrics"].annotation).validate_python(groups) == groups
    assert groups["editor"]["gap_closed_ci_low"] <= groups["editor"]["gap_closed"]
    assert {"accuracy_Manufacturer", "mse_EchoTime"} <= groups["predictor"].keys()
    assert metrics_of(groups) == groups  # older reports were such groups themselves


def test_an_editor_that_does_nothing_is_told_so(pipeline: Pipeline, cache: SliceCache, tmp_path: Path) -> None:
    idle = evaluate(replace(pipeline, editor=Idle(pipeline.editor)), cache, tmp_path, Inputs(sections=QUICK))
    assert value(idle, "gap_closed") == 0
    assert value(idle, "effectiveness_corrected_Manufacturer") in (0, pytest.approx(float("nan"), nan_ok=True))
    assert idle.figures["legacy"]["legacy_ssim_original"].estimate.value == pytest.approx(1)
    assert idle.answers[0].verdict.startswith("Not decided")


@pytest.mark.parametrize(("steps", "printed"), [(25, ("0.284", "0.878")), (40, ("not given", "not given"))])
def test_the_papers_columns_are_of_the_settings_that_were_measured(
    pipeline: Pipeline, cache: SliceCache, tmp_path: Path, steps: int, printed: tuple[str, str]
) -> None:
    editor = Oracle(pipeline.editor)
    editor.setup = SdeditSetup.model_validate({**METHODS["sdedit"], **PAPER})
    settings = Settings("ancestral", steps, 3.0)
    inputs = Inputs(sections=("counterfactuals",), pairs_per_woman=1)
    found = evaluate(replace(pipeline, editor=editor), cache, tmp_path, inputs, settings=settings)
    tables = {table.title: table for section in found.sections for table in section.tables}
    four = tables["How much an edit changes a slice"]
    five = tables["Agreement with the target, as the paper counts"]
    assert four.columns[-1] == five.columns[-1] == f"paper, {steps} steps, scale 3"
    assert {row[0]: row[-1] for row in four.rows}["legacy_ssim_shuffled"] == printed[0]
    assert {row[0]: row[-1] for row in five.rows}["ScanOptions"] == printed[1]


def test_table_3_says_with_which_presets_it_was_measured(pipeline: Pipeline, cache: SliceCache, tmp_path: Path) -> None:
    inputs = Inputs(sections=("downstream",), downstream=write_rows(tmp_path / "rows.json", 60))
    evaluate(pipeline, cache, tmp_path / "report", inputs)
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    (key,) = {figure["settings"] for figure in data["figures"]["downstream"].values()}
    settings = data["settings"][key]
    assert (settings["file"], settings["presets"], settings["seeds"]) == ("rows.json", "smoke", 3)
    assert settings["bundle_sha256"] == "ab" * 32
    assert settings["configs"]["GE"]["preset"] == "smoke"
    assert "preset smoke" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.parametrize("name", ["report.json", "report.html", "reader-key.json"])
def test_an_earlier_report_is_never_overwritten(cache: SliceCache, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("somebody's")
    with pytest.raises(ValueError, match=rf"{name} exists and nothing is overwritten; name a new folder"):
        evaluate(None, cache, tmp_path)  # there is no bundle to measure: it is refused before
    assert (tmp_path / name).read_text() == "somebody's"


@pytest.mark.parametrize("last", ["reader-key.json", "report.html", "report.json"])
def test_a_report_that_was_killed_while_it_was_written_is_completed(
    pipeline: Pipeline, cache: SliceCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    def killed(path: Path, data: bytes) -> None:
        if path.name == last:
            raise KeyboardInterrupt
        path.write_bytes(data)

    inputs = Inputs(sections=("reader",), reader_cases=2)
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr("training.evaluation.output.replace_file", killed)
        evaluate(pipeline, cache, tmp_path, inputs)
    assert not (tmp_path / "report.json").exists()
    evaluate(pipeline, cache, tmp_path, inputs)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "reader-key.json",
        "reader.html",
        "report.html",
        "report.json",
    ]
    with pytest.raises(ValueError, match="nothing is overwritten"):
        evaluate(pipeline, cache, tmp_path, inputs)


def test_a_full_disk_while_the_report_is_written_is_one_message(
    pipeline: Pipeline, cache: SliceCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise IngestError("repeat with --resume") from OSError(28, "No space left on device")

    monkeypatch.setattr("training.evaluation.output.replace_file", full)
    with pytest.raises(OSError, match=r"report\.html could not be written \(.*No space left.*the same command again"):
        evaluate(pipeline, cache, tmp_path, Inputs(sections=("judges",)))


def test_an_oracle_does_better_than_an_idle_editor_on_the_same_pairs(
    pipeline: Pipeline, cache: SliceCache, report: tuple[Report, Path]
) -> None:
    settings = Settings.of(Options(), pipeline.editor.setup)
    oracle = Bench(replace(pipeline, editor=Oracle(pipeline.editor)), cache, cache.split("test"), settings)
    idle = beside(oracle, replace(pipeline, editor=Idle(pipeline.editor)), settings)
    section = versus(oracle, {"idle": idle})
    found = {name: figure.estimate for name, figure in section.figures["versus"].items()}
    assert found["gap_closed_idle"].value == 0
    assert found["gap_closed_this"].value == value(report[0], "gap_closed")
    better = found["gap_closed_this_less_idle"]
    assert (better.value, better.n) == (pytest.approx(found["gap_closed_this"].value), 5)
    assert 0 < better.low <= better.high
    assert found["dice_this"].value == value(report[0], "dice_counterfactual"), "one Dice in every section"
    assert found["dice_idle"].value == value(report[0], "dice_source")
    assert found["ssim_to_target_idle"].value == value(report[0], "ssim_source_to_target")
    p_values = {row[0]: float(row[-1]) for row in section.tables[0].rows}
    assert p_values["gap closed (L1)"] == pytest.approx(2 / 2**5 * len(COMPARED), abs=1e-3), (
        "two of 32 signs, times five"
    )
    assert p_values["change under the source's own parameters"] == 1


def test_pairs_are_drawn_within_one_position(cache: SliceCache) -> None:
    pairs = draw_pairs(cache.split("test"), 1)
    assert len(pairs) == 5
    assert all(p.source.pair_group == p.target.pair_group and p.source != p.target for p in pairs)


def test_shuffled_targets_are_a_permutation_of_the_sources(cache: SliceCache) -> None:
    pairs = draw_shuffled(cache.split("test"), 2)
    assert sorted(p.source.index for p in pairs) == sorted(p.target.index for p in pairs)


@pytest.mark.parametrize(
    ("damage", "inputs", "message"),
    [
        ({"cleans": None}, {"sections": ("truth",)}, "noiseless truth"),
        ({}, {"split": "val"}, "split val"),
        ({"preprocessing": {"size": 1}}, {}, "preprocessing"),
        ({}, {"sections": ("versus",)}, "--versus"),
    ],
)
def test_what_the_data_cannot_answer_is_refused(pipeline, cache, tmp_path, damage, inputs, message) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(pipeline, replace(cache, **damage), tmp_path, Inputs(**inputs))


def test_a_cohort_of_another_vocabulary_is_refused(pipeline: Pipeline, cache: SliceCache, tmp_path: Path) -> None:
    rows = tuple(replace(row, iap={**row.iap, "ManufacturerModelName": "Unheard Of"}) for row in cache.rows)
    with pytest.raises(ValueError, match="ManufacturerModelName of the cohort lie outside the vocabulary"):
        evaluate(pipeline, replace(cache, rows=rows), tmp_path)


def test_a_cohort_without_truth_is_measured_as_far_as_it_goes(pipeline, cache, tmp_path) -> None:
    inputs = Inputs(fresh_women=0, reader_cases=2)
    found = evaluate(pipeline, replace(cache, cleans=None), tmp_path, inputs)
    assert {"truth", "versus", "levels"} <= found.left_out.keys()
    assert "left out" in (tmp_path / "report.html").read_text().lower()


def test_bundles_of_other_preprocessing_are_not_compared(pipeline: Pipeline, report: tuple[Report, Path]) -> None:
    bench = Bench(pipeline, None, (), None)
    with pytest.raises(ValueError, match="preprocessing"):
        beside(bench, replace(pipeline, preprocessing=Preprocessing(size=32)), None)


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        (Estimate(0.5, 0.4, 0.6, 9), "0.500 ms (0.400 to 0.600), n = 9"),
        (Estimate(0.001234, float("nan"), float("nan"), 1), "0.0012 ms, n = 1"),
        (Estimate(float("nan"), float("nan"), float("nan"), 0), "no data (n = 0)"),
    ],
)
def test_a_cell_shows_value_interval_unit_and_n(estimate: Estimate, shown: str) -> None:
    assert cell(Figure(estimate, "editor", "ms")) == shown
