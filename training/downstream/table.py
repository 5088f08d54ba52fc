"""Finished cells -> the rows of Table 3: Dice with its interval, the paired difference to no augmentation, Holm's p.

The unit is the woman. A woman's Dice is averaged over seeds first, then women are resampled: the intervals hold for
other women and the mean over these trainings, not for the chance of a single training.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from training.downstream.arms import BASELINE
from training.statistics import holm, mean_over_women, nulled, paired_difference

TISSUES = ("fat", "fibroglandular")
ARROW = "->"
Scores = dict[Hashable, list[float]]
Key = tuple[str, str, str]  # direction ("GE->Siemens": trained on, tested on), arm, tissue or figure


def rows_of(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per direction, arm and tissue; Holm's correction is over all comparisons of the table."""
    scores = _scores(cells, "dice", lambda tissues: zip(TISSUES, tissues, strict=True))
    rows, p_values = _compared(cells, scores, label="tissue", value="dice")
    return nulled([row | {"p_holm": p} for row, p in zip(rows, holm(p_values), strict=True)])


def legacy_rows_of(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per direction, arm and figure of the paper's own definitions, which mislead: outside Holm's correction,
    so without p. No rows where a cell of an earlier version did not keep them."""
    if not all("legacy" in cell for cell in cells):
        return []
    rows, _ = _compared(cells, _scores(cells, "legacy", dict.items), label="figure", value="value")
    return nulled(rows)


def _compared(
    cells: Sequence[Mapping[str, Any]], scores: Mapping[Key, Scores], *, label: str, value: str
) -> tuple[list[dict[str, Any]], list[float]]:
    """Rows with the difference to ``BASELINE``, and its p uncorrected; ``label`` and ``value`` name two columns."""
    seeds = len({cell["seed"] for cell in cells})
    steps = {cell["vendor"]: cell["steps"] for cell in cells}
    rows, p_values = [], []
    for (direction, arm, name), values in scores.items():
        difference, p = None, float("nan")
        if arm != BASELINE:
            difference, p = paired_difference(values, scores[direction, BASELINE, name])
        p_values.append(p)
        rows.append(
            {
                "direction": direction,
                "arm": arm,
                label: name,
                value: asdict(mean_over_women(values)),
                "difference_to_none": None if difference is None else asdict(difference),
                "p_holm": None,
                "seeds": seeds,
                "steps": steps[direction.split(ARROW)[0]],
            }
        )
    return rows, p_values


def _scores(
    cells: Iterable[Mapping[str, Any]], kept: str, named: Callable[[Any], Iterable[tuple[str, float | None]]]
) -> dict[Key, Scores]:
    """By row, per woman the value of each seed; ``named`` tells the values that a cell has of her under ``kept``."""
    scores: dict[Key, Scores] = {}
    for cell in cells:
        for tested, women in cell[kept].items():
            for woman, hers in women.items():
                for name, value in named(hers):
                    key = f"{cell['vendor']}{ARROW}{tested}", cell["arm"], name
                    scores.setdefault(key, defaultdict(list))[woman].append(float("nan") if value is None else value)
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
