"""A report's figures as the flat groups that manifests and model cards hold."""

from collections.abc import Mapping
from typing import Any

FORMAT = "reacquire-report/1"
CARD = ("predictor", "segmenter", "editor")  # what a manifest keeps; the rest is in the report


def metrics_of(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Groups of name -> value of a ``report.json``, an interval as ``NAME_ci_low`` and ``NAME_ci_high``.

    Data that is no report of this format is taken to be such groups already, as older reports are.
    """
    if report.get("format") != FORMAT:
        return {group: dict(figures) for group, figures in report.items()}
    groups: dict[str, dict[str, Any]] = {"cohort": dict(report["cohort"])}
    for group in CARD:
        flat: dict[str, Any] = dict(report["settings"]["editor"]) if group == "editor" else {}
        for name, figure in report["figures"].get(group, {}).items():
            flat[name] = figure["value"]
            if figure["low"] is not None:
                flat |= {f"{name}_ci_low": figure["low"], f"{name}_ci_high": figure["high"]}
        if len(flat):
            groups[group] = flat
    return groups
