"""Reports and pages as single HTML files: everything inlined, nothing loaded from anywhere."""

import base64
import math
import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from training.evaluation.document import Cell, Figure, Picture, Report


def render(template: str, **values: object) -> str:
    """A page from one of the package's templates, everything escaped."""
    environment = Environment(
        loader=PackageLoader("training.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"breakable": breakable, "cell": cell, "kind": kind, "uri": uri}
    return environment.get_template(template).render(**values)


def render_report(report: Report) -> str:
    return render("report.html.j2", report=report)


def cell(value: Cell) -> str:
    """What a table shows of a cell: the value with its interval, its unit and n."""
    if not isinstance(value, Figure):
        return "" if value is None else breakable(value)
    estimate = value.estimate
    if not math.isfinite(estimate.value):
        return f"no data (n = {estimate.n})"
    unit = f" {value.measured_in}" if value.measured_in else ""
    interval = "" if math.isnan(estimate.low) else f" ({number(estimate.low)} to {number(estimate.high)})"
    return f"{number(estimate.value)}{unit}{interval}, n = {estimate.n}"


def breakable(text: str) -> str:
    """The text with places where a browser may break DICOM keywords and the names of figures: zero-width spaces."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=_)(?=[a-zA-Z])", "\u200b", text)


def number(value: float) -> str:
    """Three digits after the point, more significant ones for small numbers."""
    if value != 0 and abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"


def kind(value: Cell) -> str:
    return "figure" if isinstance(value, Figure) else "text"


def uri(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.png).decode()
