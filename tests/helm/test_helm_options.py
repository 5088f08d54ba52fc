"""What a site may switch on: ingress, monitoring, training, and the main job as ``helm test``."""

import asyncio
import re
from collections.abc import Iterable, Iterator
from typing import Any

import helm_python as helm
import httpx
import pytest
import yaml
from chart_rendering import CHART, SCENARIOS, VALUES, changed, container, installed, only, render
from fastapi import FastAPI

from reacquire.dicom import read_slice
from reacquire.errors import ReacquireError
from service.app import create_app
from service.settings import ServiceSettings
from training.config import PRESETS

CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject"}


@pytest.fixture(params=sorted(SCENARIOS))
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return render(VALUES[request.param])


def test_the_ingress_speaks_tls_and_hides_the_metrics() -> None:
    spec = only(render(VALUES["internal-redis"]), "Ingress")["spec"]
    assert spec["tls"] == [{"hosts": ["reacquire.hospital.example"], "secretName": "reacquire-tls"}]
    paths = spec["rules"][0]["http"]["paths"]
    assert "/v1" in {p["path"] for p in paths}
    assert {p["backend"]["service"]["port"]["name"] for p in paths} == {"http"}, "the port without /metrics"


@pytest.fixture(scope="module")
def api() -> FastAPI:
    return create_app(ServiceSettings(blob_url="memory:///"))


def outside(addresses: Iterable[str]) -> set[str]:
    """Those that the ingress leads nowhere; a prefix counts by whole elements of the path."""
    rule = only(render(VALUES["internal-redis"]), "Ingress")["spec"]["rules"][0]
    paths = [p["path"] for p in rule["http"]["paths"]]
    return {a for a in addresses if not any(a == path or a.startswith(f"{path}/") for path in paths)}


def test_the_ingress_serves_every_route_of_the_api(api: FastAPI) -> None:
    assert outside(api.openapi()["paths"]) <= {"/metrics", "/livez", "/readyz", "/healthz"}


def test_the_ingress_serves_whatever_the_page_of_the_api_loads(api: FastAPI) -> None:
    async def page() -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://api") as client:
            return (await client.get("/docs")).raise_for_status().text

    text = asyncio.run(page())
    loaded = re.findall(r'(?:src|href)="([^"]+)"', text) + re.findall(r"url: '([^']+)'", text)
    assert {"/openapi.json", "/static-offline-docs/swagger-ui-bundle.js"} <= set(loaded)
    assert outside(loaded) == set()


@pytest.fixture(scope="module")
def monitored() -> list[dict[str, Any]]:
    return render(VALUES["monitoring"])


def test_monitors_find_ports_that_exist(monitored: list[dict[str, Any]]) -> None:
    (endpoint,) = only(monitored, "ServiceMonitor")["spec"]["endpoints"]
    service = only(monitored, "Service", "-api-metrics")
    assert service["spec"]["clusterIP"] == "None", "nobody publishes it by a type of Service"
    assert endpoint["port"] in {p["name"] for p in service["spec"]["ports"]}
    assert endpoint["interval"] == "30s"
    wanted = only(monitored, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    (endpoint,) = only(monitored, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {p["name"] for p in container(monitored, "worker")["ports"]}
    assert only(monitored, "PodMonitor")["metadata"]["labels"]["release"] == "prometheus"


def test_a_monitor_that_may_not_scrape_is_refused() -> None:
    with pytest.raises(helm.HelmRenderError, match=r"networkPolicy\.metricsFrom is required"):
        render(changed("monitoring", "networkPolicy.metricsFrom", []))
    open_network = render(changed("monitoring", "networkPolicy", {"enabled": False}))
    assert only(open_network, "ServiceMonitor")


def test_every_process_but_the_api_is_found_by_the_pod_monitor() -> None:
    (expression,) = only(render(VALUES["monitoring"]), "PodMonitor")["spec"]["selector"]["matchExpressions"]
    with_metrics = {
        o["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        for o in render(VALUES["pacs"])
        if o["kind"] == "Deployment"
    }
    assert set(expression["values"]) == with_metrics - {"api"}


def test_rules_and_dashboard_are_the_rendered_files(monitored: list[dict[str, Any]]) -> None:
    rules = only(monitored, "PrometheusRule")["spec"]
    assert rules == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    board = only(monitored, "ConfigMap", "-dashboard")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert yaml.safe_load(board["data"]["reacquire.json"]) == yaml.safe_load(
        (CHART / "files" / "dashboard.json").read_text(encoding="utf-8")
    )


def test_nothing_of_it_is_there_unless_asked_for() -> None:
    assert not CUSTOM & {o["kind"] for o in render(VALUES["minimal"])}


def jobs(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The training jobs by the name that the values give them."""
    found = [o for o in installed(render(values)) if o["kind"] == "Job"]
    names = [re.fullmatch(r"demo-reacquire-train-(.+)-[0-9a-f]{8}", o["metadata"]["name"]) for o in found]
    return {match[1]: o for match, o in zip(names, found, strict=True) if match}


def test_training_asks_for_the_devices_it_uses() -> None:
    found = jobs(VALUES["training"])
    limits = {n: o["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] for n, o in found.items()}
    assert {n: each.get("nvidia.com/gpu") for n, each in limits.items()} == {
        "cohort": None,
        "predictor": 1,
        "editor": 2,
    }
    commands = {n: o["spec"]["template"]["spec"]["containers"][0]["command"] for n, o in found.items()}
    assert commands["predictor"] == ["python", "-m", "training.cli"]
    torchrun = ["torchrun", "--standalone", "--local-addr=localhost", "--nproc-per-node=2", "-m", "--", "training.cli"]
    assert commands["editor"] == torchrun
    assert all(o["spec"]["template"]["spec"]["restartPolicy"] == "Never" for o in found.values())


@pytest.mark.parametrize("name", ["predictor", "editor"])
def test_the_jobs_name_presets_whose_batches_their_devices_can_divide(name: str) -> None:
    container = jobs(VALUES["training"])[name]["spec"]["template"]["spec"]["containers"][0]
    words = container["args"]
    preset = PRESETS[words[1], words[words.index("--preset") + 1]]
    assert all(phase.batch_size % container["resources"]["limits"]["nvidia.com/gpu"] == 0 for phase in preset.phases)


def test_a_changed_training_is_another_job() -> None:
    def name(values: dict[str, Any]) -> str:
        return jobs(values)["predictor"]["metadata"]["name"]

    assert name(VALUES["training"]) == name(VALUES["training"])
    assert name(VALUES["training"]) != name(changed("training", "image.tag", "0.2.0"))


def test_training_reaches_nothing() -> None:
    objects = render(VALUES["training"])
    spec = next(o for o in installed(objects) if o["kind"] == "Job")["spec"]["template"]
    for policy in (o["spec"] for o in objects if o["kind"] == "NetworkPolicy" and "egress" in o["spec"]):
        selector = policy["podSelector"]
        allowed = [v for e in selector.get("matchExpressions", []) for v in e["values"]]
        assert spec["metadata"]["labels"]["app.kubernetes.io/component"] not in allowed
        assert allowed or "app.kubernetes.io/component" in selector["matchLabels"]
    assert not [e for e in spec["spec"]["containers"][0].get("env", []) if "REDIS" in e["name"]]


def hooks(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (o for o in objects if o not in installed(objects))


def test_the_test_is_not_part_of_the_installation(objects: list[dict[str, Any]]) -> None:
    assert {o["metadata"]["labels"]["app.kubernetes.io/component"] for o in hooks(objects)} == {"test"}
    assert all("hook-succeeded" in o["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for o in hooks(objects))
    opened = [o for o in hooks(objects) if o["kind"] == "NetworkPolicy"]
    assert len(opened) == 2


def test_the_test_calls_the_api_of_its_release(objects: list[dict[str, Any]]) -> None:
    (process,) = only(objects, "Job", "-test")["spec"]["template"]["spec"]["containers"]
    service = only(objects, "Service", "-reacquire")
    assert process["args"][0] == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    carried = only(objects, "ConfigMap", "-test")
    assert process["command"][1].rsplit("/", 1)[1] in carried["data"]
    assert process["args"][1].rsplit("/", 1)[1] in carried["binaryData"]


def test_the_test_shows_the_login_of_its_secret() -> None:
    (process,) = only(render(VALUES["keys"]), "Job", "-test")["spec"]["template"]["spec"]["containers"]
    (variable,) = process["env"]
    assert variable["name"] == "REACQUIRE_TOKEN"
    assert variable["valueFrom"] == {"secretKeyRef": {"name": "reacquire-test-key", "key": "key"}}
    (process,) = only(render(VALUES["minimal"]), "Job", "-test")["spec"]["template"]["spec"]["containers"]
    assert "env" not in process


@pytest.mark.parametrize("scenario", ["keys", "oidc"])
def test_without_the_test_no_login_for_it_is_asked_for(scenario: str) -> None:
    without = render(changed(scenario, "test", {"enabled": False}))
    assert without == installed(without)


def test_the_slice_of_the_test_is_one_that_we_read() -> None:
    found = read_slice((CHART / "files" / "slice.dcm").read_bytes(), allow_synthetic=True)
    assert found.pixels.shape == (112, 112)


def test_the_slice_of_the_test_is_of_nobody() -> None:
    with pytest.raises(ReacquireError) as refused:
        read_slice((CHART / "files" / "slice.dcm").read_bytes())
    assert refused.value.code == "already-synthetic"
