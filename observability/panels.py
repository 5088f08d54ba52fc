"""The dashboard as a picture, without Grafana: its JSON says what to ask Prometheus, where to draw and what to write.

Titles, queries, legends, units and places are read from the rendered file, so the picture shows what Grafana would.
"""

import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNITS = {"s": "s", "bytes": "B", "reqps": "req/s", "ops": "1/s", "percentunit": "%", "short": ""}
COLUMNS, POINTS = 24, 240  # of Grafana's grid; of a curve
DARK, PANEL, GRID, TEXT = "#111217", "#181b1f", "#2c3235", "#ccccdc"
CURVES = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffee52", "#96d98d", "#ff7383")


@dataclass(frozen=True)
class Window:
    """From when to when (epoch seconds) and how far apart the points are."""

    start: float
    end: float

    @property
    def step(self) -> float:
        return max(1.0, (self.end - self.start) / POINTS)


@dataclass(frozen=True)
class Curve:
    """One series of a panel; ``values`` has NaN where Prometheus has none."""

    name: str
    times: tuple[float, ...]
    values: tuple[float, ...]


def legend(template: str, labels: Mapping[str, str]) -> str:
    """Grafana's legend format: ``{{label}}`` is the label's value."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found.group(1), ""), template).strip()


def ask(prometheus: str, expr: str, window: Window) -> list[dict[str, Any]]:
    """The series of a range query.

    Raises
    ------
    RuntimeError
        When Prometheus does not answer, or refuses the query.
    """
    query = {"query": expr, "start": window.start, "end": window.end, "step": window.step}
    url = f"{prometheus.rstrip('/')}/api/v1/query_range?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            document = json.load(answer)
    except OSError as error:
        raise RuntimeError(f"Prometheus does not answer at {prometheus}: {error}") from error
    if document["status"] != "success":
        raise RuntimeError(f"Prometheus refuses {expr}")
    found: list[dict[str, Any]] = document["data"]["result"]
    return found


def curves_of(panel: Mapping[str, Any], prometheus: str, window: Window) -> list[Curve]:
    """Every series of a panel that has a value, in the order of its queries."""
    found = []
    for target in panel.get("targets", []):
        for series in ask(prometheus, target["expr"], window):
            times, values = zip(*((float(t), float(v)) for t, v in series["values"]), strict=True)
            if not all(math.isnan(v) for v in values):
                found.append(Curve(legend(target["legendFormat"], series["metric"]), times, values))
    return found


def draw(board: Mapping[str, Any], curves: Mapping[int, Sequence[Curve]], window: Window, output: Path) -> None:
    """Write the picture; ``curves`` by the id of their panel."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    places = [panel["gridPos"] for panel in board["panels"]]
    rows = max(place["y"] + place["h"] for place in places)
    width, height = 18.0, rows * 0.30
    figure = pyplot.figure(figsize=(width, height), facecolor=DARK)
    for panel in board["panels"]:
        place = panel["gridPos"]
        if panel["type"] == "row":
            top = 1 - (place["y"] + 0.5) / rows
            figure.text(0.008, top, panel["title"], color=TEXT, fontsize=13, fontweight="bold", va="center")
            continue
        left, bottom = place["x"] / COLUMNS, 1 - (place["y"] + place["h"]) / rows
        box = (left + 0.035, bottom + 2.3 / rows, place["w"] / COLUMNS - 0.045, (place["h"] - 3.5) / rows)
        _panel(figure.add_axes(box), panel, curves[panel["id"]], window)
    figure.savefig(output, dpi=75, facecolor=DARK)
    pyplot.close(figure)


def _panel(axes: Any, panel: Mapping[str, Any], curves: Sequence[Curve], window: Window) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    scale = 100.0 if unit == "percentunit" else 1.0
    axes.set_facecolor(PANEL)
    axes.set_title(panel["title"], loc="left", color=TEXT, fontsize=9, fontweight="bold")
    for index, curve in enumerate(curves):
        values = [scale * v for v in curve.values]
        axes.plot(curve.times, values, color=CURVES[index % len(CURVES)], linewidth=1.3, label=curve.name)
    axes.set_xlim(window.start, window.end)
    axes.set_ylim(bottom=0)
    ticks = [window.start + share * (window.end - window.start) for share in (0.1, 0.5, 0.9)]
    axes.set_xticks(ticks, [time.strftime("%H:%M:%S", time.gmtime(t)) for t in ticks])
    axes.tick_params(colors=TEXT, labelsize=7, length=0)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_ylabel(UNITS.get(unit, unit), color=TEXT, fontsize=7)
    for side in axes.spines.values():
        side.set_color(GRID)
    if not curves:
        axes.text(0.5, 0.5, "No data", color=GRID, transform=axes.transAxes, ha="center", va="center", fontsize=11)
        return
    shown = axes.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -0.12), ncols=3, fontsize=6.5, frameon=False, columnspacing=1.0
    )
    for text in shown.get_texts():
        text.set_color(TEXT)


def picture(board: Mapping[str, Any], prometheus: str, window: Window, output: Path) -> dict[str, int]:
    """Ask, draw, and say how many series each panel shows."""
    curves = {p["id"]: curves_of(p, prometheus, window) for p in board["panels"]}
    draw(board, curves, window, output)
    return {p["title"]: len(curves[p["id"]]) for p in board["panels"] if p["type"] != "row"}
