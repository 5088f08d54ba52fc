"""The chart as the real Helm engine renders it, and how to find things in what it rendered."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm

CHART = Path(__file__).resolve().parents[2] / "helm" / "reacquire"
SCENARIOS = {path.stem.removesuffix("-values"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
VALUES = {name: helm.values_from_yaml(path.read_text(encoding="utf-8")) for name, path in SCENARIOS.items()}


def render(values: dict[str, Any], name: str = "demo") -> list[dict[str, Any]]:
    """The objects of a release, notes left out. Rendered once for the same values: change nothing in them."""
    return _render(json.dumps(values), name)


@cache
def _render(values_json: str, name: str) -> list[dict[str, Any]]:
    values = json.loads(values_json)
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name=name, namespace="imaging")
    texts = [text for path, text in files.items() if path.endswith(".yaml")]
    parts = [part for text in texts for part in re.split(r"^---$", text, flags=re.MULTILINE)]
    return [found for found in map(helm.values_from_yaml, parts) if found]


def only(objects: list[dict[str, Any]], kind: str, suffix: str = "") -> dict[str, Any]:
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].endswith(suffix)]
    return found


def policies(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (o["spec"] for o in objects if o["kind"] == "NetworkPolicy")


def opening_to(objects: list[dict[str, Any]], port: int) -> dict[str, Any]:
    """The one network policy that lets somebody out to a port."""
    way = {"port": port, "protocol": "TCP"}
    (found,) = [p for p in policies(objects) for rule in p.get("egress", []) if way in rule["ports"]]
    return found


def pod(objects: list[dict[str, Any]], component: str) -> dict[str, Any]:
    return only(objects, "Deployment", f"-{component}")["spec"]["template"]["spec"]


def container(objects: list[dict[str, Any]], component: str) -> dict[str, Any]:
    (found,) = pod(objects, component)["containers"]
    return found


def environment(objects: list[dict[str, Any]], component: str) -> dict[str, Any]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container(objects, component)["env"]}


def changed(scenario: str, path: str, value: Any) -> dict[str, Any]:
    """A copy of a scenario's values with one of them set, by a dotted path."""
    values = helm.values_from_yaml(SCENARIOS[scenario].read_text(encoding="utf-8"))
    node = values
    *parents, last = path.split(".")
    for key in parents:
        node = node.setdefault(key, {})
    node[last] = value
    return values


def installed(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What an installation creates: everything but the hooks of ``helm test``."""
    return [o for o in objects if "helm.sh/hook" not in o["metadata"].get("annotations", {})]


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name of the workload, spec of its pod) of every Deployment, StatefulSet and Job."""
    for each in objects:
        if "template" in each.get("spec", {}):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]
