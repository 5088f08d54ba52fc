"""The rows of a comparison as a table and as a figure."""

import json
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

Row = Mapping[str, Any]
# heading, figure, decimals
COLUMNS = (
    ("gap closed", "gap_closed", 2),
    ("gap closed, pooled", "gap_pooled", 2),
    ("contrast, fat", "contrast_fat_pooled", 2),
    ("contrast, fibroglandular", "contrast_fibroglandular_pooled", 2),
    ("contrast, muscle", "contrast_muscle_pooled", 2),
    ("categories", "effect_categories_pooled", 2),
    ("numbers", "effect_numbers_pooled", 2),
    ("Dice minus true target's", "dice_minus_true_target", 3),
    ("composition", "composition", 4),
)
FAMILIES = ("bound", "paper", "few steps", "edit-friendly", "structure", "direct")


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, one line per candidate, intervals in brackets."""
    heads = ["method", *(head for head, _, _ in COLUMNS), "evaluations", "CPU s", "seeds"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        cells = [_cell(row["figures"].get(name), digits) for _, name, digits in COLUMNS]
        cost = f"{row['cpu_seconds_per_slice']:.3f}" if row["evaluations"] else "-"
        lines.append(
            f"| {row['name']} | {' | '.join(cells)} | {row['evaluations'] or '-'} | {cost} | {row['seeds'] or '-'} |"
        )
    return "\n".join(lines)


def _cell(estimate: Mapping[str, float | None] | None, digits: int) -> str:
    if estimate is None or estimate["value"] is None:
        return "-"
    interval = "" if estimate["low"] is None else f" ({estimate['low']:.{digits}f} to {estimate['high']:.{digits}f})"
    return f"{estimate['value']:.{digits}f}{interval}"


def undominated(rows: Sequence[Row]) -> list[str]:
    """Names of the candidates that no other one beats in gap closed and in evaluations at once."""

    def merits(row: Row) -> tuple[float, int]:
        return gap(row), -row["evaluations"]

    def better(a: Row, b: Row) -> bool:
        return merits(a) != merits(b) and all(x >= y for x, y in zip(merits(a), merits(b), strict=True))

    real = [row for row in rows if row["evaluations"]]
    return [row["name"] for row in real if not any(better(other, row) for other in real)]


def gap(row: Row) -> float:
    """Pooled gap closed; where there is none, behind everything."""
    value = row["figures"]["gap_pooled"]["value"]
    return -inf if value is None else float(value)


def figure(rows: Sequence[Row], path: Path, title: str) -> None:
    """Gap closed against evaluations, seconds, what the segmenter loses, what the predictor sees; colours by family."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    picture, (left, time, middle, right) = pyplot.subplots(1, 4, figsize=(18, 4.5), sharey=True)
    for number, family in enumerate(FAMILIES):
        members = [row for row in rows if row["family"] == family and row["evaluations"]]
        if not members:
            continue
        values, lows, highs = (_numbers(members, "gap_pooled", key) for key in ("value", "low", "high"))
        errors = np.nan_to_num([values - lows, highs - values])  # no bar where there is no interval
        anatomy = _numbers(members, "dice_minus_true_target")
        style = {"fmt": "o", "color": f"C{number}", "label": family, "capsize": 2, "markersize": 5}
        left.errorbar([row["evaluations"] for row in members], values, errors, **style)
        time.errorbar([row["cpu_seconds_per_slice"] for row in members], values, errors, **style)
        middle.errorbar(anatomy, values, errors, **style)
        right.errorbar(_numbers(members, "effect_categories_pooled"), values, errors, **style)
    left.set_xscale("log")
    time.set_xscale("log")
    time.set_xlabel("seconds per slice, CPU")
    left.set_xlabel("network evaluations per slice")
    left.set_ylabel("gap closed, pooled")
    middle.set_xlabel("Dice on the edit minus Dice on the true target")
    right.set_xlabel("changed categories seen (1: as on a real one)")
    for axis in (left, time, middle, right):
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.grid(alpha=0.3)
    left.legend(fontsize=8)
    picture.suptitle(title, fontsize=10)
    picture.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=90)
    pyplot.close(picture)


def _numbers(rows: Sequence[Row], figure: str, key: str = "value") -> np.ndarray:
    """One number of each row, NaN where there is none."""
    return np.array([row["figures"][figure][key] for row in rows], dtype=float)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
