"""The picture of an audit: header against pixels, a panel per parameter, with the predictor's own error drawn in.

Categories as a table of counts (sound headers lie on its diagonal), numbers as points around a band of twice the
predictor's RMSE. Needs matplotlib, which nothing else here does.
"""

import io
from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from reacquire.audit.compare import TOLERANCE_RMSE, Accuracy, Comparison
from reacquire.audit.journal import SeriesAudit
from reacquire.audit.summary import Row, Summary
from reacquire.iap import Categorical, Continuous, Value, Vocabulary

AGREES, DISAGREES, QUIET = "#2f6f9f", "#c8502d", "#8a8f98"
COLUMNS, PANEL_IN = 4, (3.6, 3.7)  # inches
DPI = 130


def audit_png(
    summary: Summary, audits: Sequence[SeriesAudit], vocabulary: Vocabulary, accuracy: Accuracy, *, title: str
) -> bytes:
    """The figure as a PNG file."""
    rows = -(-len(vocabulary.parameters) // COLUMNS)
    layout = ConstrainedLayoutEngine(h_pad=0.1, hspace=0.04, w_pad=0.06)
    figure = Figure(figsize=(COLUMNS * PANEL_IN[0], rows * PANEL_IN[1] + 0.7), dpi=DPI, layout=layout)
    figure.suptitle(f"{title}\nEach series once; a disagreement is a reason to look, not a finding", fontsize=11)
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for ax, parameter, row in zip(axes, vocabulary.parameters, summary.rows, strict=False):
        compared = [
            c
            for audit in audits
            for c in audit.comparisons
            if c.keyword == parameter.keyword and c.verdict in ("agrees", "disagrees")
        ]
        _headline(ax, row)
        if not compared:
            _nothing(ax)
        elif isinstance(parameter, Categorical):
            _table(ax, parameter, compared)
        else:
            _cloud(ax, parameter, compared, TOLERANCE_RMSE * accuracy.scale(parameter))
    for ax in axes[len(vocabulary.parameters) :]:
        ax.set_axis_off()
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _headline(ax: Axes, row: Row) -> None:
    """Name, counts, and how good the predictor is at this parameter."""
    unit = f" ({row.unit})" if row.unit else ""
    expected = "" if row.expected is None else f"; {row.expected:.0f} expected by the predictor's errors alone"
    rest = ", ".join(f"{row.counts[v]} {v}" for v in ("absent", "varies", "outside") if row.counts[v])
    ax.set_title(f"{row.keyword}{unit}", fontsize=10, fontweight="bold", loc="left", pad=30)
    lines = (
        f"{row.counts['disagrees']} of {row.compared} disagree{expected}",
        f"predictor {row.own}" + (f"; not compared: {rest}" if rest else ""),
    )
    ax.text(0, 1.02, "\n".join(lines), transform=ax.transAxes, fontsize=6.8, color="#444444", va="bottom")


def _nothing(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color("#dddddd")
    ax.text(0.5, 0.5, "nothing to compare", ha="center", va="center", color=QUIET, transform=ax.transAxes, fontsize=8)


def _short(category: Value) -> str:
    """A category that fits an axis: scan options lose the vendor's suffix."""
    return str(category).replace("_GEMS", "").replace("\\", " ").replace("GE MEDICAL SYSTEMS", "GE")


def _table(ax: Axes, parameter: Categorical, compared: Sequence[Comparison]) -> None:
    """Counts of (header, predicted), over the categories that occur."""
    pairs = Counter((parameter.match(c.header), c.predicted) for c in compared if c.header is not None)
    occurring = [c for c in parameter.categories if any(c in pair for pair in pairs)]
    counts = np.array([[pairs[header, predicted] for predicted in occurring] for header in occurring])
    shades = counts / max(counts.max(), 1)
    for (i, j), count in np.ndenumerate(counts):
        colour = AGREES if i == j else DISAGREES
        ax.add_patch(_cell(j, i, colour, 0.12 + 0.78 * shades[i, j] if count else 0.0))
        if count:
            ax.text(
                j, i, str(count), ha="center", va="center", fontsize=8, color="white" if shades[i, j] > 0.5 else "black"
            )
    names = [_short(c) for c in occurring]
    size = 8 if len(names) < 4 else 6.5
    ax.set_xticks(range(len(names)), names, rotation=35 if len(names) > 2 else 0, fontsize=size,
                  ha="right" if len(names) > 2 else "center")  # fmt: skip
    ax.set_yticks(range(len(names)), names, fontsize=size)
    ax.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
    ax.tick_params(length=0)
    ax.set_xlabel("pixels say", fontsize=8)
    ax.set_ylabel("header says", fontsize=8)


def _cell(x: int, y: int, colour: str, opacity: float) -> Rectangle:
    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=(colour, opacity), edgecolor="#e3e3e3", linewidth=0.8)


def _cloud(ax: Axes, parameter: Continuous, compared: Sequence[Comparison], tolerance: float) -> None:
    """Points of (header, predicted), the diagonal, and the band within which they agree."""
    margin = 0.06 * (parameter.maximum - parameter.minimum)
    ends = np.array([parameter.minimum - margin, parameter.maximum + margin])
    ax.fill_between(ends, ends - tolerance, ends + tolerance, color=AGREES, alpha=0.10, linewidth=0)
    ax.plot(ends, ends, color=QUIET, linewidth=0.8)
    for verdict, colour, marker in (("agrees", AGREES, "o"), ("disagrees", DISAGREES, "X")):
        points = [(c.header, c.predicted) for c in compared if c.verdict == verdict]
        if points:
            x, y = np.array(points, dtype=float).T
            ax.scatter(
                x, y, s=24, c=colour, marker=marker, alpha=0.75, linewidths=0.4, edgecolors="white", label=verdict
            )
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    ax.tick_params(labelsize=7)
    ax.set_xlabel("header says", fontsize=8)
    ax.set_ylabel("pixels say", fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=6.5, frameon=False, loc="upper left")
