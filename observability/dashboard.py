"""The Grafana dashboard: rows of panels, from what users notice down to the devices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from observability.query import increase_of_store, mean, of_store, quantile, rate, series
from reacquire.jobs import metrics as names

Unit = Literal["short", "s", "bytes", "reqps", "ops", "percentunit"]
SOURCE = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
WIDTH, HEIGHT = 24, 8  # of Grafana's grid; of a panel


@dataclass(frozen=True)
class Panel:
    """A graph of some queries, each with its legend (Grafana's ``{{label}}`` syntax)."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: Unit = "short"
    description: str = ""


@dataclass(frozen=True)
class Row:
    title: str
    panels: Sequence[Panel]


def _quantiles(metric: names.Metric, by: str, legend: str) -> list[tuple[str, str]]:
    return [(quantile(share, metric, by), f"{legend} p{share * 100:.0f}") for share in (0.5, 0.95)]


ROWS = (
    Row(
        "Jobs",
        (
            Panel(
                "Jobs waiting and at work",
                [(of_store(names.QUEUE_DEPTH), "waiting"), (of_store(names.JOBS_IN_PROGRESS), "at work")],
            ),
            Panel("Workers alive", [(of_store(names.WORKERS), "workers")]),
            Panel("Wait for a worker", _quantiles(names.QUEUE_WAIT, "operation", "{{operation}}"), "s"),
            Panel(
                "Jobs that ended, in 5 minutes",
                [(increase_of_store(names.JOBS_FINISHED, by="operation, state"), "{{operation}} {{state}}")],
            ),
            Panel(
                "Jobs that ended, by model, in 5 minutes",
                [(increase_of_store(names.JOBS_FINISHED, by="model"), "{{model}}")],
                description="none: ended before any networks ran",
            ),
            Panel("Jobs accepted", [(rate(names.JOBS_SUBMITTED, by="operation"), "{{operation}}")], "ops"),
            Panel(
                "Failures by code, in 5 minutes",
                [(increase_of_store(names.JOB_FAILURES, by="code"), "{{code}}")],
                description="docs/problems.md explains every code",
            ),
            Panel(
                "Failures by operation and model, in 5 minutes",
                [(increase_of_store(names.JOB_FAILURES, by="operation, model"), "{{operation}} {{model}}")],
            ),
        ),
    ),
    Row(
        "API",
        (
            Panel("Requests by status", [(rate(names.HTTP_REQUESTS, by="status"), "{{status}}")], "reqps"),
            Panel(
                "Time to answer, p95 by route",
                [(quantile(0.95, names.HTTP_DURATION, "route"), "{{route}}")],
                "s",
                "Routes that wait for a result (Prefer: wait) take as long as the job",
            ),
            Panel("Requests refused, by code", [(rate(names.REJECTED, by="code"), "{{code}}")], "reqps"),
        ),
    ),
    Row(
        "Workers",
        (
            Panel(
                "Mean batch size",
                [(mean(names.BATCH_SIZE, "operation"), "{{operation}}")],
                description="1 under load means that jobs do not share the device",
            ),
            Panel("Networks, seconds per batch", _quantiles(names.BATCH_COMPUTE, "operation", "{{operation}}"), "s"),
            Panel(
                "Device time",
                [(rate(names.BATCH_COMPUTE, by="device, model", suffix="_sum"), "{{device}} {{model}}")],
                "percentunit",
                "Share of the time in the networks, summed over workers: 2 is two devices that are never idle",
            ),
            Panel("Denoising steps", [(rate(names.STEPS, by="operation"), "{{operation}}")], "ops"),
            Panel("Reading and checking, per job", _quantiles(names.PREPARE, "operation", "{{operation}}"), "s"),
            Panel("Writing, per job", _quantiles(names.FINISH, "operation", "{{operation}}"), "s"),
            Panel("Jobs that left a worker", [(rate(names.ITEMS, by="outcome"), "{{outcome}}")], "ops"),
            Panel("Device memory", [(series(names.GPU_MEMORY), "{{instance}}")], "bytes"),
            Panel("Batches that did not fit", [(rate(names.OUT_OF_MEMORY), "batches")], "ops"),
            Panel(
                "Bundles served",
                [(f"count by (model, version) ({series(names.MODEL_ACTIVE)} == 1)", "{{model}} {{version}}")],
            ),
            Panel(
                "Ends that are not on record yet",
                [(f"sum ({series(names.UNWRITTEN)})", "events")],
                description="more than 0: the audit trail cannot be written",
            ),
        ),
    ),
    Row(
        "Courier",
        (
            Panel(
                "Jobs waiting for a PACS, and couriers",
                [(of_store(names.COURIER_QUEUE_DEPTH), "waiting"), (of_store(names.COURIERS), "couriers")],
            ),
            Panel("Time per stage", _quantiles(names.STAGE_DURATION, "stage", "{{stage}}"), "s"),
            Panel("Stages put off", [(rate(names.PUT_OFF, by="stage"), "{{stage}}")], "ops"),
            Panel("Instances pulled and stored", [(rate(names.INSTANCES, by="outcome"), "{{outcome}}")], "ops"),
            Panel("Webhook notices", [(rate(names.NOTICES, by="outcome"), "{{outcome}}")], "ops"),
        ),
    ),
    Row(
        "C-STORE receiver",
        (
            Panel("Instances received", [(rate(names.SCP_INSTANCES, by="outcome"), "{{outcome}}")], "ops"),
            Panel("Associations", [(rate(names.SCP_ASSOCIATIONS, by="outcome"), "{{outcome}}")], "ops"),
            Panel("Series that were complete", [(rate(names.SCP_SERIES, by="outcome"), "{{outcome}}")], "ops"),
            Panel(
                "Spool",
                [(series(names.SCP_SPOOLED), "series"), (series(names.SCP_QUARANTINED), "quarantined")],
            ),
            Panel("Free space of the spool", [(series(names.SCP_FREE), "{{instance}}")], "bytes"),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it; the data source is chosen in Grafana."""
    return {
        "uid": "reacquire",
        "title": "Reacquire",
        "tags": ["reacquire"],
        "timezone": "browser",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": list(_panels()),
    }


def _panels() -> Iterator[dict[str, Any]]:
    """Three panels side by side under the title of their row."""
    top, number = 0, 0
    for row in ROWS:
        number += 1
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "panels": [],
               "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1}}  # fmt: skip
        top += 1
        for index, panel in enumerate(row.panels):
            number += 1
            place = {"x": index % 3 * WIDTH // 3, "y": top + index // 3 * HEIGHT, "w": WIDTH // 3, "h": HEIGHT}
            yield _panel(panel, number, place)
        top += -(-len(row.panels) // 3) * HEIGHT


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "gridPos": place,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": source, "expr": expr, "legendFormat": legend}
            for i, (expr, legend) in enumerate(panel.queries)
        ],
    }
