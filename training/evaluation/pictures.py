"""Figures of a report, drawn by matplotlib without a display, as small PNG files."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from training.evaluation.bench import Bench
from training.evaluation.document import Figure, Picture
from training.evaluation.truth import CHANGES

DPI = 80
INK, EDIT, CEILING = "#333333", "#2b6cb0", "#b7c4d1"


def truth_pictures(bench: Bench, figures: Mapping[str, Figure]) -> tuple[Picture, ...]:
    """Gap closed by kind of change beside its ceiling, and three examples."""
    return _gap_picture(figures), _examples(bench)


def _gap_picture(figures: Mapping[str, Figure]) -> Picture:
    from matplotlib.figure import Figure as Canvas

    names = {"": "all pairs", **{f"_{k}": v for k, v in CHANGES.items() if f"gap_closed_{k}" in figures}}
    canvas = Canvas(figsize=(7, 0.55 * len(names) + 1.0), layout="constrained")
    axis = canvas.subplots()
    for row, suffix in enumerate(names):
        for offset, name, colour in ((-0.18, "gap_ceiling", CEILING), (0.18, "gap_closed", EDIT)):
            estimate = figures[f"{name}{suffix}"].estimate
            axis.barh(row + offset, estimate.value, 0.34, color=colour)
            axis.plot([estimate.low, estimate.high], [row + offset] * 2, color=INK, linewidth=1.2)
    axis.set_yticks(range(len(names)), list(names.values()))
    axis.invert_yaxis()
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_xlim(min(-0.15, axis.get_xlim()[0]), 1.0)
    axis.set_xlabel("gap closed: 0 = as good as doing nothing, 1 = perfect")
    handles: list[Any] = [axis.barh(0, 0, color=c) for c in (CEILING, EDIT)]
    canvas.legend(
        handles,
        ["a real, noisy re-scan (ceiling)", "counterfactual"],
        loc="outside upper center",
        ncols=2,
        frameon=False,
    )
    return Picture(
        "Gap closed, and what a re-scan would close", "Black lines: 95 % intervals over women.", _png(canvas)
    )


def _examples(bench: Bench, count: int = 3) -> Picture:
    pairs = bench.pairs
    other = [i for i, p in enumerate(pairs) if p.source.iap.get("Manufacturer") != p.target.iap.get("Manufacturer")]
    women: dict[int, int] = {}
    for i in other or range(len(pairs)):
        women.setdefault(pairs[i].woman, i)
    chosen = list(women.values())[:count]
    picked = [pairs[i] for i in chosen]
    panels = bench.sources(picked), bench.edited_pairs[chosen], bench.targets(picked)
    titles = ("source", "counterfactual", "true target", "edit - source", "target - source")
    return Picture(
        "Examples: the first women whose vendor changes",
        "Not chosen by looks. Differences: blue is darker, red brighter than the source.",
        _png(_grid(panels, titles)),
    )


def _grid(panels: Sequence[Tensor], titles: Sequence[str]) -> Any:
    from matplotlib.figure import Figure as Canvas

    source, edited, target = (p[:, 0].numpy() for p in panels)
    count = len(source)
    canvas = Canvas(figsize=(8.2, 1.62 * count + 0.25), layout="constrained")
    axes = canvas.subplots(count, len(titles), squeeze=False)
    for row in range(count):
        shown = [source[row], edited[row], target[row], edited[row] - source[row], target[row] - source[row]]
        for column, image in enumerate(shown):
            axis = axes[row, column]
            difference = column > 2
            limits = (
                {"vmin": -0.4, "vmax": 0.4, "cmap": "RdBu_r"}
                if difference
                else {"vmin": 0, "vmax": 1.25, "cmap": "gray"}
            )
            axis.imshow(image, **limits)
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(titles[column], fontsize=8)
    return canvas


def matrix_picture(figures: Mapping[str, Figure]) -> Picture:
    """The amplification matrix in colours."""
    from matplotlib.figure import Figure as Canvas

    rows = list(dict.fromkeys(name.split("_to_")[0] for name in figures))
    columns = list(dict.fromkeys(name.split("_to_")[1] for name in figures))
    values = np.array([[figures[f"{r}_to_{c}"].estimate.value for c in columns] for r in rows])
    canvas = Canvas(figsize=(7, 0.42 * len(rows) + 1.6), layout="constrained")
    axis = canvas.subplots()
    axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axis.text(
            column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else INK, fontsize=8
        )
    axis.set_xticks(range(len(columns)), columns, rotation=30, ha="right", fontsize=8)
    axis.set_yticks(range(len(rows)), rows, fontsize=8)
    axis.set_ylabel("changed alone", fontsize=8)
    return Picture(
        "What the predictor sees move", "Numbers in standard deviations, categories as shares of slices.", _png(canvas)
    )


def _png(canvas: Any) -> bytes:
    stream = io.BytesIO()
    # Metadata would carry the version of matplotlib: equal reports should be equal files.
    canvas.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()
