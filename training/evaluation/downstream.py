"""Table 3 as an experiment: renders the rows that the downstream experiment wrote, beside the paper's."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.evaluation import paper
from training.evaluation.document import Cell, Figure, Figures, Section, Table
from training.statistics import Estimate

BARELY = 500  # optimiser steps; fewer are no training
NEEDED = ("direction", "arm", "tissue", "dice", "difference_to_none", "p_holm", "seeds", "steps")
LEGACY = ("direction", "arm", "figure", "value", "difference_to_none", "seeds", "steps")

ON_TEST = (
    "The weights were chosen on the women that they are tested on, for the cohort has no others with masks (the "
    "authors' split): every Dice is somewhat too high."
)


def downstream(path: Path) -> Section:
    """The section on segmenters trained with and without counterfactuals, from the experiment's ``downstream.json``.

    Raises
    ------
    ValueError
        When the file holds no such rows.
    """
    rows, legacy, measured = _read(path)
    figures: Figures = {}
    shown: list[tuple[Cell, ...]] = []
    for row in rows:
        name = f"{row['direction']}/{row['arm']}/{row['tissue']}"
        figures[f"dice/{name}"] = dice = _figure(row["dice"])
        difference = _difference(row)
        if difference is not None:
            figures[f"difference/{name}"] = difference
        p = "" if row["p_holm"] is None else f"{row['p_holm']:.3g}"
        told = (row["direction"], row["arm"], row["tissue"])
        shown.append((*told, dice, difference or "", p, _runs(row)))
    repeated, legacy_table = _legacy(legacy)
    columns = ("direction", "arm", "tissue", "Dice", "difference to none", "p (Holm)", "runs")
    return Section(
        name="downstream",
        title="Training a segmenter with counterfactuals (Table 3)",
        question="Does a segmenter trained on one vendor do better on the other if counterfactuals were added?",
        method="Equal optimiser steps in every arm; a tissue's Dice over a woman's slices, mean over women; "
        "difference to the arm "
        "without augmentation over the same women; p-values adjusted for all comparisons (Holm). Counterfactuals are "
        f"of the bundle with sha256 {measured['bundle_sha256'][:12]}.",
        caveats=(
            *_barely(rows, measured),
            "An interval is over women alone: it leaves out the chance of a training, and with ten women or fewer it "
            "is too narrow. Believe p (Holm) before it.",
            "The paper's table has one run per cell, no intervals, and slices as units.",
            *([ON_TEST] if measured.get("validated_on") == "test" else []),
        ),
        figures={"downstream": {**figures, **repeated}},
        tables=(
            Table("This experiment", columns, tuple(shown)),
            *legacy_table,
            Table("Paper, Table 3 (* p < 0.05 there)", paper.TABLE_3_COLUMNS, paper.TABLE_3),
        ),
    )


def measured_with(path: Path) -> dict[str, Any]:
    """What the experiment's rows were measured with: presets, seeds, copies, hashes, every setting of the trainings.

    Raises
    ------
    ValueError
        When the file is none of the downstream experiment.
    """
    _, _, measured = _read(path)
    return {"file": path.name, "presets": ", ".join(_presets(measured)) or "not given", **measured}


def _legacy(rows: Sequence[Mapping[str, Any]]) -> tuple[Figures, tuple[Table, ...]]:
    """Figures and table of the paper's own definitions; neither where the experiment kept none."""
    figures: Figures = {}
    shown: list[tuple[Cell, ...]] = []
    for row in rows:
        name = f"{row['figure']}/{row['direction']}/{row['arm']}"
        figures[name] = value = _figure(row["value"])
        difference = _difference(row)
        if difference is not None:
            figures[f"{row['figure']}_difference/{row['direction']}/{row['arm']}"] = difference
        shown.append((row["direction"], row["arm"], row["figure"], value, difference or "", _runs(row)))
    columns = ("direction", "arm", "figure", "value", "difference to none", "runs")
    note = "A class's recall is what the paper prints as accuracy; mean Dice counts fat alone on slices without gland."
    return figures, (Table("This experiment, as the paper counts", columns, tuple(shown), note),) if rows else ()


def _presets(measured: Mapping[str, Any]) -> list[str]:
    """Of the segmenters."""
    configs = measured.get("configs")
    found = configs.values() if isinstance(configs, Mapping) else ()
    return sorted({str(config["preset"]) for config in found if isinstance(config, Mapping) and "preset" in config})


def _barely(rows: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> tuple[str, ...]:
    """A warning where too little was trained to tell the arms apart."""
    fewest = min(int(row["steps"]) for row in rows)
    if fewest >= BARELY:
        return ()
    preset = f" (preset {', '.join(_presets(measured))})" if _presets(measured) else ""
    return (
        f"Barely trained: the segmenters had {fewest} optimiser steps{preset}, and below {BARELY} one is far from "
        "what it can learn. The table shows that the experiment runs; differences between its arms say nothing of "
        "trained segmenters.",
    )


def _read(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """The rows, those of the paper's definitions, and what they were measured with: ``bundle_sha256`` of the
    counterfactuals, and more."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows, legacy, measured = document["rows"], document.get("legacy_rows", []), dict(document["measured_with"])
        measured["bundle_sha256"] = str(measured["bundle_sha256"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{path} can't be read as the result of the downstream experiment: {type(error).__name__}"
        ) from None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path} holds no rows of the downstream experiment")
    for needed, kind in ((NEEDED, rows), (LEGACY, legacy)):
        for number, row in enumerate(kind):
            missing = [key for key in needed if key not in row] if isinstance(row, dict) else list(needed)
            if missing:
                raise ValueError(f"{path}, row {number}: {', '.join(missing)} is missing")
    return rows, legacy, measured


def _runs(row: Mapping[str, Any]) -> str:
    return f"{row['seeds']} seeds, {row['steps']} steps"


def _difference(row: Mapping[str, Any]) -> Figure | None:
    """To the arm without augmentation, which has none itself."""
    return None if row["difference_to_none"] is None else _figure(row["difference_to_none"])


def _figure(data: dict[str, Any]) -> Figure:
    value, low, high = (float("nan") if data[key] is None else float(data[key]) for key in ("value", "low", "high"))
    return Figure(Estimate(value, low, high, int(data["n"]), str(data.get("unit", "women"))), "downstream")
