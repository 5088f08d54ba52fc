"""One evaluation from bundle and cohort to a report: which sections, with which settings, in which order."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from reacquire import __version__
from reacquire.engine import Pipeline, Settings
from reacquire.imaging import Preprocessing
from reacquire.jobs.spec import Options
from training.cache import SliceCache, Split
from training.evaluation.axioms import axioms
from training.evaluation.bands import bands
from training.evaluation.bench import Bench, Tracked
from training.evaluation.document import Report, Section
from training.evaluation.downstream import downstream, measured_with
from training.evaluation.flat import FORMAT
from training.evaluation.html import render_report
from training.evaluation.judges import judges
from training.evaluation.levels import edit_rescans, levels, physics
from training.evaluation.output import HTML, JSON, open_output, write_output
from training.evaluation.pictures import matrix_picture, truth_pictures
from training.evaluation.reader import make_study, reader_section
from training.evaluation.rescans import POSITIONS, TARGETS, make_rescans
from training.evaluation.similarity import counterfactuals, distributions
from training.evaluation.summary import answers
from training.evaluation.truth import truth
from training.evaluation.versus import beside, versus

SECTIONS = (
    "truth", "axioms", "judges", "counterfactuals", "distributions", "levels", "physics", "bands", "downstream",
    "versus", "reader",
)  # fmt: skip
PAIRED = ("truth", "versus")  # need the same woman under two protocols, and her noiseless truth


@dataclass(frozen=True)
class Inputs:
    """Everything that the user may add to a bundle and a cohort.

    Attributes
    ----------
    sections : to measure; None for all that the data allows
    split : of the cohort, or "all" of one that nothing was trained on
    pairs_per_woman : edits of each kind that a woman gets at most
    anatomies : label volumes
    fresh_women : simulated for the sections levels and physics
    radimagenet, downstream : files
    others : name -> (pipeline, settings) of bundles to compare with
    reader_cases, seed : of the reader study
    workers : processes that simulate
    """

    sections: tuple[str, ...] | None = None
    split: Split | Literal["all"] = "test"
    pairs_per_woman: int = 4
    anatomies: tuple[Path, ...] = ()
    fresh_women: int = 4
    radimagenet: Path | None = None
    downstream: Path | None = None
    others: Mapping[str, tuple[Pipeline, Settings]] = field(default_factory=dict)
    reader_cases: int = 20
    seed: int = 0
    workers: int = 1


def evaluate(
    pipeline: Pipeline,
    cache: SliceCache,
    folder: Path,
    inputs: Inputs | None = None,
    *,
    settings: Settings | None = None,
    tracked: Tracked = lambda items, _: items,
) -> Report:
    """Measure a bundle and write ``report.html`` and ``report.json`` (and a reader study) into ``folder``.

    Raises
    ------
    ValueError
        When the folder holds a report, or the data can't answer what was asked: empty split, no truth, other
        vocabulary, unreadable files.
    """
    open_output(folder)
    inputs = inputs or Inputs()
    bench = _bench(pipeline, cache, inputs, settings or Settings.of(Options(), pipeline.editor.setup), tracked)
    missing = unanswerable(bench, inputs)
    asked = inputs.sections or tuple(name for name in SECTIONS if name not in missing)
    for name in asked:
        if name in missing:
            raise ValueError(f"section {name}: {missing[name]}")
    sections, files = _measured(bench, inputs, [name for name in SECTIONS if name in asked])
    report = Report(
        title=f"{pipeline.bundle.name} {pipeline.bundle.version}: evaluation",
        made=_made(bench, inputs),
        settings=_settings(bench, inputs),
        answers=(),
        sections=tuple(sections),
        left_out={name: why for name, why in missing.items() if inputs.sections is None},
    )
    report = replace(report, answers=answers(report.figures))
    files |= {HTML: render_report(report), JSON: json.dumps(to_json(report, bench), indent=1, default=str) + "\n"}
    write_output(folder, files)
    return report


def _bench(pipeline: Pipeline, cache: SliceCache, inputs: Inputs, settings: Settings, tracked: Tracked) -> Bench:
    rows = cache.rows if inputs.split == "all" else cache.split(inputs.split)
    if not rows:
        raise ValueError(f"the split {inputs.split} of the cohort is empty; choose another one with --split")
    if cache.preprocessing != pipeline.preprocessing.to_dict():
        raise ValueError("the cohort was cached with other preprocessing than the bundle's: build its cache again")
    foreign = {key for row in rows for key in row.iap} - set(pipeline.vocabulary.keywords)
    foreign |= {
        key
        for row in rows
        for key, value in row.iap.items()
        if key not in foreign and pipeline.vocabulary[key].match(value) is None
    }
    if foreign:
        raise ValueError(
            f"{', '.join(sorted(foreign))} of the cohort lie outside the vocabulary of the bundle "
            f"({pipeline.vocabulary.name}): the two do not belong together"
        )
    return Bench(pipeline, cache, rows, settings, inputs.pairs_per_woman, tracked)


def unanswerable(bench: Bench, inputs: Inputs) -> dict[str, str]:
    """Section -> why it can't be measured with this data."""
    missing: dict[str, str] = {}
    for name in PAIRED:
        if bench.cache.cleans is None:
            missing[name] = "the cohort has no noiseless truth; write it with reacquire-train cohort --truth"
        elif not bench.pairs:
            missing[name] = "no slice of the cohort was scanned under two protocols"
    if len({row.iap.get("Manufacturer") for row in bench.rows}) < 2:
        missing["distributions"] = "the cohort's split has slices of one vendor only"
    if inputs.downstream is None:
        missing["downstream"] = "no --downstream file was given"
    if not inputs.others:
        missing["versus"] = "no --versus bundle was given"
    if not inputs.fresh_women and not inputs.anatomies:
        missing |= dict.fromkeys(("levels", "physics"), "neither --fresh-women nor --anatomies were given")
    return missing


def _measured(bench: Bench, inputs: Inputs, names: Sequence[str]) -> tuple[list[Section], dict[str, str]]:
    """The sections, and the files of the reader study by name."""
    edits, files = None, {}
    if {"levels", "physics"} & set(names):
        rescans = make_rescans(
            Preprocessing.from_dict(bench.cache.preprocessing),
            women=inputs.fresh_women,
            anatomies=inputs.anatomies,
            workers=inputs.workers,
            tracked=bench.tracked,
        )
        edits = edit_rescans(bench, rescans)

    def study() -> Section:
        files.update(make_study(bench, cases=inputs.reader_cases, seed=inputs.seed))
        return reader_section(min(inputs.reader_cases, len({p.woman for p in bench.asked})))

    makers: dict[str, Callable[[], Section]] = {
        "judges": lambda: judges(bench),
        "counterfactuals": lambda: counterfactuals(bench, inputs.radimagenet),
        "distributions": lambda: distributions(bench, inputs.radimagenet),
        "truth": lambda: _with_truth_pictures(bench),
        "axioms": lambda: _with_matrix(axioms(bench)),
        "levels": lambda: levels(edits),  # type: ignore[arg-type]
        "physics": lambda: physics(edits),  # type: ignore[arg-type]
        "bands": lambda: bands(bench),
        "downstream": lambda: downstream(inputs.downstream),  # type: ignore[arg-type]
        "versus": lambda: versus(bench, {n: beside(bench, *other) for n, other in inputs.others.items()}),
        "reader": study,
    }
    return [makers[name]() for name in names], files


def _with_truth_pictures(bench: Bench) -> Section:
    section = truth(bench)
    return replace(section, pictures=truth_pictures(bench, section.figures["editor"]))


def _with_matrix(section: Section) -> Section:
    drift = section.figures["amplification"]
    return replace(section, pictures=(matrix_picture(drift),)) if drift else section


def _made(bench: Bench, inputs: Inputs) -> dict[str, Any]:
    bundle = bench.pipeline.bundle
    return {
        "bundle": f"{bundle.name} {bundle.version}",
        "data": "simulated" if bench.cache.synthetic else "patients",
        "split": inputs.split,
        "women": len({row.woman for row in bench.rows}),
        "slices": len(bench.rows),
        "pairs": len(bench.pairs),
        "reacquire": __version__,
    }


def _settings(bench: Bench, inputs: Inputs) -> dict[str, dict[str, Any]]:
    editor, networks = bench.settings.record(bench.pipeline.editor.setup), bench.pipeline.bundle.manifest.networks
    shared = {**editor, "preset": networks.editor.preset, "precision": "float32"}
    found: dict[str, dict[str, Any]] = {
        "editor": {**shared, "targets": "pairs" if bench.pairs else "shuffled", "per_woman": inputs.pairs_per_woman},
        "shuffled": {**shared, "targets": "permuted in batches of 32", "per_woman": inputs.pairs_per_woman},
        "single": {**shared, "targets": "one parameter changed", "per_woman": 1},
        "judges": {"predictor": networks.predictor.preset, "segmenter": networks.segmenter.preset},
        "rescans": {
            **shared, "fresh_women": inputs.fresh_women, "anatomies": len(inputs.anatomies), "positions": POSITIONS,
            "protocols": TARGETS, "site": "one",
        },
    }  # fmt: skip
    for name, (pipeline, settings) in inputs.others.items():
        record = settings.record(pipeline.editor.setup)
        found[f"versus_{name}"] = {**record, "preset": pipeline.bundle.manifest.networks.editor.preset}
    if inputs.downstream is not None and (inputs.sections is None or "downstream" in inputs.sections):
        found["downstream"] = measured_with(inputs.downstream)
    return found


def to_json(report: Report, bench: Bench) -> dict[str, Any]:
    """``report.json``: every figure by group and name, with what it was measured with."""
    bundle = bench.pipeline.bundle
    cohort = {k: report.made[k] for k in ("split", "women", "slices", "pairs")}
    return {
        "format": FORMAT,
        "bundle": {"name": bundle.name, "version": bundle.version, "sha256": bundle.sha256},
        "cohort": {**cohort, "manifest_sha256": bench.cache.cohort, "data": report.made["data"]},
        "made_with": __version__,
        "settings": report.settings,
        "summary": [
            {"question": a.question, "figure": a.figure.to_dict(), "in_words": a.verdict} for a in report.answers
        ],
        "sections": [
            {"name": s.name, "title": s.title, "method": s.method, "caveats": s.caveats} for s in report.sections
        ],
        "left_out": report.left_out,
        "figures": {g: {n: f.to_dict() for n, f in figures.items()} for g, figures in report.figures.items()},
    }
