"""Finished cells -> the rows of Table 3: Dice with its interval, the paired difference to no augmentation, Holm's p.

The unit is the woman. A woman's Dice is averaged over seeds first, then women are resampled: the intervals hold for
other women and the mean over these trainings, not for the chance of a single training.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from training.downstream.arms import BASELINE
from training.downstream.cell import nulled
from training.statistics import holm, mean_over_women, paired_difference

TISSUES = ("fat", "fibroglandular")
ARROW = "->"
Scores = dict[Hashable, list[float]]
Key = tuple[str, str, str]  # direction ("GE->Siemens": trained on, tested on), arm, tissue or figure


def rows_of(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per direction, arm and tissue; Holm's correction is over all comparisons of the table."""
    scores = _scores(cells)
    seeds = len({cell["seed"] for cell in cells})
    steps = {cell["vendor"]: cell["steps"] for cell in cells}
    rows, p_values = [], []
    for (direction, arm, tissue), values in scores.items():
        difference, p = None, float("nan")
        if arm != BASELINE:
            difference, p = paired_difference(values, scores[direction, BASELINE, tissue])
        p_values.append(p)
        rows.append(
            {
                "direction": direction,
                "arm": arm,
                "tissue": tissue,
                "dice": asdict(mean_over_women(values)),
                "difference_to_none": None if difference is None else asdict(difference),
                "p_holm": None,
                "seeds": seeds,
                "steps": steps[direction.split(ARROW)[0]],
            }
        )
    return nulled([row | {"p_holm": p} for row, p in zip(rows, holm(p_values), strict=True)])


def legacy_rows_of(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per direction, arm and figure of the paper's own definitions, which mislead: outside Holm's correction,
    so without p. No rows where a cell of an earlier version did not keep them."""
    if not all("legacy" in cell for cell in cells):
        return []
    scores: dict[Key, Scores] = {}
    for cell in cells:
        for tested, women in cell["legacy"].items():
            for woman, figures in women.items():
                for name, value in figures.items():
                    key = f"{cell['vendor']}{ARROW}{tested}", cell["arm"], name
                    scores.setdefault(key, defaultdict(list))[woman].append(float("nan") if value is None else value)
    seeds = len({cell["seed"] for cell in cells})
    steps = {cell["vendor"]: cell["steps"] for cell in cells}
    return nulled(
        [
            {
                "direction": direction,
                "arm": arm,
                "figure": name,
                "value": asdict(mean_over_women(values)),
                "difference_to_none": None
                if arm == BASELINE
                else asdict(paired_difference(values, scores[direction, BASELINE, name])[0]),
                "p_holm": None,
                "seeds": seeds,
                "steps": steps[direction.split(ARROW)[0]],
            }
            for (direction, arm, name), values in scores.items()
        ]
    )


def _scores(cells: Iterable[Mapping[str, Any]]) -> dict[Key, Scores]:
    """By row, per woman the Dice of each seed."""
    scores: dict[Key, Scores] = {}
    for cell in cells:
        for tested, women in cell["dice"].items():
            for i, tissue in enumerate(TISSUES):
                values = scores.setdefault((f"{cell['vendor']}{ARROW}{tested}", cell["arm"], tissue), defaultdict(list))
                for woman, tissues in women.items():
                    values[woman].append(float("nan") if tissues[i] is None else tissues[i])
    return scores


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| direction | arm | tissue | Dice | difference to none | p (Holm) |", "|---|---|---|---|---|---|"]
    for row in rows:
        p = "" if row["p_holm"] is None else f"{row['p_holm']:.3f}"
        cells = (row["direction"], row["arm"], row["tissue"], _interval(row["dice"], ""))
        lines.append(f"| {' | '.join(cells)} | {_interval(row['difference_to_none'], '+')} | {p} |")
    return "\n".join(lines)


def _interval(estimate: Mapping[str, Any] | None, sign: str) -> str:
    if estimate is None or estimate["value"] is None:
        return ""
    if estimate["low"] is None:
        return f"{estimate['value']:{sign}.3f}"
    return f"{estimate['value']:{sign}.3f} ({estimate['low']:{sign}.3f} to {estimate['high']:{sign}.3f})"
