"""Rules and dashboard: rendered from the code, naming metrics that the processes serve, firing when they should."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from observability.alerts import ALERTS
from observability.dashboard import ROWS, WIDTH, dashboard
from observability.query import any_of, quantile, series
from observability.render import FOLDER, rendered
from reacquire.errors import every_code
from reacquire.jobs import metrics as names

ROOT = Path(__file__).resolve().parents[2]
METRICS = {value.name: value for value in vars(names).values() if isinstance(value, names.Metric)}
PANELS = [panel for row in ROWS for panel in row.panels]
EXPRESSIONS = {alert.name: alert.expr for alert in ALERTS} | {
    f"{panel.title} {number}": expr for panel in PANELS for number, (expr, _) in enumerate(panel.queries)
}
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing (Debian: prometheus)")

# alert -> series that must make it fire, as promtool writes them: value, then what is added each minute
FIRING = {
    "ReacquireApiOrRedisDown": {"reacquire_workers": "1+0x60"},
    "ReacquireNoWorker": {"reacquire_workers": "0+0x60", "reacquire_queue_depth": "3+0x60"},
    "ReacquireQueueStands": {
        "reacquire_workers": "2+0x60",
        "reacquire_queue_depth": "3+0x60",
        "reacquire_jobs_in_progress": "0+0x60",
    },
    "ReacquireJobsRefused": {'reacquire_requests_rejected_total{code="overloaded"}': "0+5x60"},
    "ReacquireNotReady": {'reacquire_requests_rejected_total{code="not-ready"}': "0+5x60"},
    "ReacquireLongWait": {
        'reacquire_queue_wait_seconds_bucket{le="300"}': "0+0x60",
        'reacquire_queue_wait_seconds_bucket{le="900"}': "0+2x60",
        'reacquire_queue_wait_seconds_bucket{le="+Inf"}': "0+2x60",
    },
    "ReacquireJobsFail": {'reacquire_job_failures_total{code="internal-error"}': "0+1x60"},
    "ReacquireNoCourier": {"reacquire_couriers": "0+0x60", "reacquire_courier_queue_depth": "3+0x60"},
    "ReacquirePacsOutOfReach": {'reacquire_jobs_put_off_total{stage="fetch"}': "0+1x60"},
    "ReacquirePacsFails": {'reacquire_job_failures_total{code="store-failed"}': "0+1x60"},
    "ReacquireTrailUnwritten": {"reacquire_trail_unwritten": "1+0x60"},
    "ReacquireOutOfMemory": {"reacquire_out_of_memory_total": "0+1x60"},
    "ReacquireServerErrors": {
        'reacquire_http_requests_total{status="500"}': "0+5x60",
        'reacquire_http_requests_total{status="200"}': "0+50x60",
    },
    "ReacquireBundlesDiffer": {
        'reacquire_model_active{model="a",version="1"}': "1+0x60",
        'reacquire_model_active{model="a",version="2"}': "1+0x60",
    },
    "ReacquireScpDiskLow": {"reacquire_scp_spool_free_bytes": "1000+0x60"},
    "ReacquireScpQuarantine": {"reacquire_scp_quarantined": "1+0x60"},
}
# more troubles of which an alert must tell
ALSO_FIRING = [
    ("ReacquireNotReady", {'reacquire_http_requests_total{route="/readyz",status="503"}': "0+6x60"}),
    ("ReacquireJobsFail", {'reacquire_job_failures_total{code="model-unavailable"}': "0+1x60"}),
]
# a busy release in which nothing is wrong, with two API pods that report the same store
HEALTHY = {
    'reacquire_workers{pod="a"}': "2+0x60",
    'reacquire_workers{pod="b"}': "2+0x60",
    'reacquire_queue_depth{pod="a"}': "5+0x60",
    'reacquire_queue_depth{pod="b"}': "5+0x60",
    "reacquire_jobs_in_progress": "8+0x60",
    "reacquire_couriers": "1+0x60",
    "reacquire_courier_queue_depth": "5+0x60",
    'reacquire_jobs_put_off_total{stage="fetch"}': "7+0x60",
    'reacquire_requests_rejected_total{code="not-dicom"}': "0+5x60",
    'reacquire_queue_wait_seconds_bucket{le="10"}': "0+5x60",
    'reacquire_queue_wait_seconds_bucket{le="+Inf"}': "0+5x60",
    'reacquire_job_failures_total{code="degenerate-image"}': "0+5x60",
    "reacquire_out_of_memory_total": "0+0x60",
    "reacquire_trail_unwritten": "0+0x60",
    'reacquire_http_requests_total{status="200"}': "0+50x60",
    'reacquire_http_requests_total{status="422"}': "0+50x60",
    'reacquire_http_requests_total{route="/readyz",status="200"}': "0+6x60",
    'reacquire_http_requests_total{route="/readyz",status="503"}': "0 1 2 3+0x57",  # while it came up
    'reacquire_requests_rejected_total{code="not-ready"}': "0+0x30 1 2+0x28",  # for a moment
    'reacquire_model_active{model="a",version="1"}': "1+0x60",
    "reacquire_scp_spool_free_bytes": "100000000000+0x60",
    "reacquire_scp_quarantined": "0+0x60",
}


# prefixes of what courier and SCP count
GATEWAY = (
    *("reacquire_scp_", "reacquire_pacs_", "reacquire_webhook_"),
    *("reacquire_stage_", "reacquire_jobs_put_off"),
)


def metric_of(name: str) -> names.Metric | None:
    """The metric behind a name as Prometheus stores it."""
    for suffix in ("", "_total", "_bucket", "_sum", "_count"):
        found = METRICS.get(name.removesuffix(suffix) if suffix else name)
        if found is not None and suffix in {"counter": ("_total",), "gauge": ("",)}.get(
            found.kind, ("_bucket", "_sum", "_count")
        ):
            return found
    return None


def test_the_rendered_files_are_up_to_date() -> None:
    for name, text in rendered().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, f"run python -m observability ({name})"


def shown() -> set[names.Metric]:
    """The metrics that some alert or panel uses."""
    found = (metric_of(n) for expr in EXPRESSIONS.values() for n in re.findall(r"\breacquire_\w+", expr))
    return {metric for metric in found if metric is not None}


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_every_metric_exists_with_its_labels(title: str) -> None:
    found = re.findall(r"\b(reacquire_\w+)(?:\{([^}]*)\})?", EXPRESSIONS[title])
    assert found
    for name, matchers in found:
        metric = metric_of(name)
        assert metric is not None, name
        assert set(re.findall(r"(\w+)=", matchers)) <= set(metric.labels)


def test_the_processes_serve_what_the_table_names() -> None:
    from fakeredis import FakeRedis

    from reacquire.jobs.config import JobsConfig
    from reacquire.jobs.presence import Presence
    from reacquire.jobs.store import JobStore
    from service.metrics import ServiceMetrics
    from worker.metrics import WorkerMetrics

    store = JobStore(FakeRedis(decode_responses=True), JobsConfig())
    served = {
        family.name
        for registry in (ServiceMetrics(store, Presence(store)).registry, WorkerMetrics().registry)
        for family in registry.collect()
    }
    assert {metric.name for metric in shown() if not metric.name.startswith(GATEWAY)} <= served


def test_the_gateway_serves_the_rest() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "gateway").glob("*.py"))
    names_of = {value.name: key for key, value in vars(names).items() if isinstance(value, names.Metric)}
    assert {m.name for m in shown() if m.name.startswith(GATEWAY) and names_of[m.name] not in text} == set()


def test_codes_in_the_rules_exist() -> None:
    found = {code for a in ALERTS for codes in re.findall(r'code=~"([^"]+)"', a.expr) for code in codes.split("|")}
    assert len(found) > 5
    assert found <= every_code() | {"internal-error", "overloaded"}


def test_a_label_that_a_metric_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="has no label operation"):
        series(names.REJECTED, any_of("operation", "segment"))
    assert series(names.REJECTED, any_of("code", "a", "b")) == 'reacquire_requests_rejected_total{code=~"a|b"}'
    assert "reacquire_batch_size_bucket[5m]" in quantile(0.5, names.BATCH_SIZE)


def test_alerts_are_complete() -> None:
    assert len({a.name for a in ALERTS}) == len(ALERTS) == len(FIRING)
    assert all(a.name.startswith("Reacquire") and a.summary for a in ALERTS)
    runbook = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^### (Reacquire\w+)$", runbook, flags=re.MULTILINE))
    assert headings == {a.name for a in ALERTS}
    assert all(a.runbook.endswith("#" + a.name.lower()) for a in ALERTS)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= WIDTH
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_asks_one_source_that_the_site_chooses() -> None:
    board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    (variable,) = board["templating"]["list"]
    assert variable["type"] == "datasource"
    for panel in board["panels"]:
        assert {t["datasource"]["uid"] for t in panel.get("targets", [])} <= {f"${{{variable['name']}}}"}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def check(tool: str, *arguments: str, folder: Path) -> None:
    run = subprocess.run([tool, *arguments], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@promtool
def test_promtool_takes_the_rules_and_the_configuration(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "alerts.yaml", tmp_path)
    shutil.copy(ROOT / "docker" / "prometheus.yaml", tmp_path)
    check("promtool", "check", "config", "prometheus.yaml", folder=tmp_path)


@promtool
def test_promtool_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{i}", "expr": expr} for i, expr in enumerate(EXPRESSIONS.values())]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    check("promtool", "check", "rules", "rules.yaml", folder=tmp_path)


def scenario(given: dict[str, str], firing: set[str]) -> dict[str, Any]:
    """A unit test of promtool: after 45 minutes exactly these alerts fire."""
    tests = [
        {
            "eval_time": "45m",
            "alertname": alert.name,
            "exp_alerts": [{}] if alert.name in firing else [],
        }
        for alert in ALERTS
    ]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in given.items()],
        "alert_rule_test": tests,
    }


@promtool
def test_nothing_fires_while_all_is_well(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "alerts.yaml", tmp_path)
    document = {"rule_files": ["alerts.yaml"], "tests": [scenario(HEALTHY, set())]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))
    check("promtool", "test", "rules", "test.yaml", folder=tmp_path)


@promtool
def test_each_alert_fires_on_its_own_trouble(tmp_path: Path) -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))
    for rule in rules["groups"][0]["rules"]:
        rule.pop("annotations")
        rule["expr"] = f"count({rule['expr']}) > 0"  # without labels, so that one expectation fits all
        rule["labels"] = {}
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
    tests = []
    for name, given in [*FIRING.items(), *ALSO_FIRING]:
        others = {} if name == "ReacquireApiOrRedisDown" else {"reacquire_queue_depth": "0+0x60"}
        tests.append(scenario(others | given, {name}))
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["alerts.yaml"], "tests": tests}))
    check("promtool", "test", "rules", "test.yaml", folder=tmp_path)
