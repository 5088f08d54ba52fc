"""Table 3 as an experiment: renders the rows that the downstream experiment wrote, beside the paper's."""

import json
from pathlib import Path
from typing import Any

from training.evaluation import paper
from training.evaluation.document import Cell, Figure, Figures, Section, Table
from training.statistics import Estimate

NEEDED = ("direction", "arm", "tissue", "dice", "difference_to_none", "p_holm", "seeds", "steps")

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
    rows, bundle, on_test = _read(path)
    figures: Figures = {}
    shown: list[tuple[Cell, ...]] = []
    for row in rows:
        name = f"{row['direction']}/{row['arm']}/{row['tissue']}"
        figures[f"dice/{name}"] = dice = _figure(row["dice"])
        difference = None if row["difference_to_none"] is None else _figure(row["difference_to_none"])
        if difference is not None:
            figures[f"difference/{name}"] = difference
        p = "" if row["p_holm"] is None else f"{row['p_holm']:.3g}"
        told = (row["direction"], row["arm"], row["tissue"])
        shown.append((*told, dice, difference or "", p, f"{row['seeds']} seeds, {row['steps']} steps"))
    columns = ("direction", "arm", "tissue", "Dice", "difference to none", "p (Holm)", "runs")
    return Section(
        name="downstream",
        title="Training a segmenter with counterfactuals (Table 3)",
        question="Does a segmenter trained on one vendor do better on the other if counterfactuals were added?",
        method="Equal optimiser steps in every arm; a tissue's Dice over a woman's slices, mean over women; "
        "difference to the arm "
        "without augmentation over the same women; p-values adjusted for all comparisons (Holm). Counterfactuals are "
        f"of the bundle with sha256 {bundle[:12]}.",
        caveats=(
            "An interval is over women alone: it leaves out the chance of a training, and with ten women or fewer it "
            "is too narrow. Believe p (Holm) before it.",
            "The paper's table has one run per cell, no intervals, and slices as units.",
            *([ON_TEST] if on_test else []),
        ),
        figures={"downstream": figures},
        tables=(
            Table("This experiment", columns, tuple(shown)),
            Table("Paper, Table 3 (* p < 0.05 there)", paper.TABLE_3_COLUMNS, paper.TABLE_3),
        ),
    )


def _read(path: Path) -> tuple[list[dict[str, Any]], str, bool]:
    """The rows, the sha256 of the bundle that made the counterfactuals, and whether test women chose the weights."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows, how = document["rows"], document["measured_with"]
        bundle, on_test = str(how["bundle_sha256"]), how.get("validated_on") == "test"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} can't be read as the result of the downstream experiment: {type(error).__name__}"
        ) from None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path} holds no rows of the downstream experiment")
    for number, row in enumerate(rows):
        missing = [key for key in NEEDED if key not in row] if isinstance(row, dict) else list(NEEDED)
        if missing:
            raise ValueError(f"{path}, row {number}: {', '.join(missing)} is missing")
    return rows, bundle, on_test


def _figure(data: dict[str, Any]) -> Figure:
    value, low, high = (float("nan") if data[key] is None else float(data[key]) for key in ("value", "low", "high"))
    return Figure(Estimate(value, low, high, int(data["n"]), str(data.get("unit", "women"))), "downstream")
