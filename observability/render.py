"""Rules and dashboard as the files that Prometheus and Grafana read."""

import json
from pathlib import Path
from typing import Any

import yaml

from observability.alerts import ALERTS, Alert
from observability.dashboard import dashboard

FOLDER = Path(__file__).resolve().parents[1] / "helm" / "reacquire" / "files"
ORIGIN = "# Rendered by `python -m observability`; change observability/alerts.py instead.\n"


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.hold,
        "labels": {"severity": alert.severity, "service": "reacquire"},
        "annotations": {"summary": alert.summary, "runbook": alert.runbook},
    }


def rendered() -> dict[str, str]:
    """File name -> text."""
    rules = {"groups": [{"name": "reacquire", "rules": [_rule(alert) for alert in ALERTS]}]}
    return {
        "alerts.yaml": ORIGIN + yaml.safe_dump(rules, sort_keys=False, width=1000),
        "dashboard.json": json.dumps(dashboard(), indent=1) + "\n",
    }
