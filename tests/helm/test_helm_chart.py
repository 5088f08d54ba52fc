"""The chart as the real Helm engine sees it: every scenario of ci/ linted, rendered, and the fields that matter."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
from chart_rendering import (
    CHART,
    SCENARIOS,
    VALUES,
    changed,
    container,
    environment,
    installed,
    only,
    opening_to,
    pod,
    policies,
    render,
)

import reacquire
from service.servers import GRACE_S
from service.settings import ServiceSettings
from worker.settings import WorkerSettings

SETTINGS = {"api": ServiceSettings, "worker": WorkerSettings}


@pytest.fixture(params=sorted(SCENARIOS))
def scenario(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def objects(scenario: str) -> list[dict[str, Any]]:
    return render(VALUES[scenario])


def test_the_scenarios_are_there() -> None:
    of_installation = {"minimal", "gpu", "pacs", "s3", "internal-redis", "keda", "hpa", "training"}
    wanted = of_installation | {"keys", "oidc", "monitoring", "trail"}
    assert set(SCENARIOS) == wanted


def test_lint_finds_nothing(scenario: str) -> None:
    report = helm.lint(CHART, VALUES[scenario], strict=True, kube_version="v1.30.0")
    assert report["errors"] == []
    assert [m["error"] for m in report["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize("component", ["api", "worker"])
def test_processes_run_without_privileges(objects: list[dict[str, Any]], component: str) -> None:
    spec, process = pod(objects, component), container(objects, component)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert process["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_both_deployments_are_the_same_pod_but_for_their_process(objects: list[dict[str, Any]]) -> None:
    api, worker = pod(objects, "api"), pod(objects, "worker")
    for key in ("securityContext", "serviceAccountName", "automountServiceAccountToken", "enableServiceLinks"):
        assert api[key] == worker[key]
    for key in ("securityContext", "imagePullPolicy", "envFrom"):
        assert container(objects, "api").get(key) == container(objects, "worker").get(key)
    own = ("pacs", "keys")
    assert [v for v in api["volumes"] if v["name"] not in own] == worker["volumes"]
    assert [m for m in container(objects, "api")["volumeMounts"] if m["name"] not in own] == (
        container(objects, "worker")["volumeMounts"]
    )
    shared = {"REACQUIRE_REDIS_URL", "REACQUIRE_BLOB_URL", "REACQUIRE_LOG_LEVEL"}
    one, other = environment(objects, "api"), environment(objects, "worker")
    assert {k: one[k] for k in shared} == {k: other[k] for k in shared}


def test_a_service_of_our_name_cannot_overwrite_settings(objects: list[dict[str, Any]]) -> None:
    # Kubernetes would set REACQUIRE_PORT=tcp://10.0.0.1:80 in every pod
    assert all(pod(objects, component)["enableServiceLinks"] is False for component in SETTINGS)
    assert "port" in ServiceSettings.model_fields


def test_api_probes(objects: list[dict[str, Any]]) -> None:
    process = container(objects, "api")
    assert process["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "metrics"}
    assert process["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    ports = {p["name"]: p["containerPort"] for p in process["ports"]}
    assert str(ports["http"]) == environment(objects, "api")["REACQUIRE_PORT"]
    assert str(ports["metrics"]) == environment(objects, "api")["REACQUIRE_METRICS_PORT"]


def test_the_api_serves_on_until_nobody_is_sent_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = render(VALUES["minimal"])
    python, flag, code = container(objects, "api")["lifecycle"]["preStop"]["exec"]["command"]
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    exec(code, {})
    assert (python, flag, slept) == ("python", "-c", [5])
    assert slept[0] + GRACE_S < pod(objects, "api")["terminationGracePeriodSeconds"]
    with pytest.raises(helm.HelmValuesError):
        render(changed("minimal", "api.terminationGracePeriodSeconds", slept[0] + GRACE_S))


def test_api_pods_rather_run_on_different_nodes() -> None:
    objects = render(VALUES["minimal"])
    (spread,) = pod(objects, "api")["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    selected = spread["labelSelector"]["matchLabels"].items()
    labels = {c: only(objects, "Deployment", f"-{c}")["spec"]["template"]["metadata"]["labels"] for c in SETTINGS}
    assert selected <= labels["api"].items()
    assert not selected <= labels["worker"].items()


def test_worker_probes_read_the_ready_file(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    process = container(objects, "worker")
    ready = environment(objects, "worker")["REACQUIRE_READY_FILE"]
    assert any(ready.startswith(mount["mountPath"] + "/") for mount in process["volumeMounts"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        python, flag, _ = process[probe]["exec"]["command"]
        assert (python, flag) == ("python", "-c")


@pytest.mark.parametrize(("age_s", "alive"), [(1, True), (500, False), (None, False)])
def test_worker_liveness_follows_the_age_of_the_file(
    age_s: float | None, alive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"
    if age_s is not None:
        ready.touch()
        os.utime(ready, (time.time() - age_s,) * 2)
    monkeypatch.setenv("REACQUIRE_READY_FILE", str(ready))
    code = container(render(VALUES["minimal"]), "worker")["livenessProbe"]["exec"]["command"][2]
    with pytest.raises((SystemExit, FileNotFoundError)) as ended:
        exec(code, {})
    assert (isinstance(ended.value, SystemExit) and not ended.value.code) is alive


def test_secrets_come_by_reference_only(scenario: str, objects: list[dict[str, Any]]) -> None:
    named = VALUES[scenario]["redis"]
    for component in SETTINGS:
        url = environment(objects, component)["REACQUIRE_REDIS_URL"]
        assert url == {"secretKeyRef": {"name": named["existingSecret"], "key": named.get("key", "redis-url")}}
        values = [e["value"] for e in container(objects, component)["env"] if "value" in e]
        assert not [v for v in values if v.startswith(("redis://", "rediss://")) or "@" in v]
    assert "Secret" not in {o["kind"] for o in objects}


@pytest.mark.parametrize("component", ["api", "worker"])
def test_every_variable_is_a_setting_with_a_valid_value(
    objects: list[dict[str, Any]], component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS[component]
    for name, value in environment(objects, component).items():
        assert name.removeprefix("REACQUIRE_").lower() in settings.model_fields
        monkeypatch.setenv(name, value if isinstance(value, str) else "redis://redis:6379/0")
    settings()


def test_gpu_resource_name_is_free_text() -> None:
    objects = render(VALUES["gpu"])
    worker = container(objects, "worker")
    assert worker["resources"]["limits"]["nvidia.com/mig-1g.18gb"] == 1
    assert worker["resources"]["limits"]["memory"] == "16Gi"
    assert environment(objects, "worker")["REACQUIRE_DEVICE"] == "cuda"
    spec = pod(objects, "worker")
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H200"}
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert spec["runtimeClassName"] == "nvidia"
    shared = container(render(changed("gpu", "gpu.resourceName", "nvidia.com/gpu.shared")), "worker")
    assert shared["resources"]["limits"]["nvidia.com/gpu.shared"] == 1


def test_the_api_never_asks_for_a_gpu() -> None:
    limits = container(render(VALUES["gpu"]), "api")["resources"]["limits"]
    assert set(limits) == {"memory"}


def test_without_a_gpu_the_worker_is_the_cpu_image() -> None:
    objects = render(VALUES["minimal"])
    worker = container(objects, "worker")
    assert worker["image"] == f"reacquire-worker-cpu:{reacquire.__version__}"
    assert environment(objects, "worker")["REACQUIRE_DEVICE"] == "cpu"
    assert not [key for key in worker["resources"]["limits"] if "/" in key]
    assert "runtimeClassName" not in pod(objects, "worker")


def test_images_are_named_by_registry_tag_and_digest() -> None:
    objects = render(VALUES["gpu"])
    version = reacquire.__version__
    assert container(objects, "api")["image"] == f"registry.hospital.example/imaging/reacquire-service:{version}"
    assert re.fullmatch(
        rf"registry\.hospital\.example/imaging/reacquire-worker:{re.escape(version)}@sha256:[0-9a-f]{{64}}",
        container(objects, "worker")["image"],
    )


def test_blobs_are_one_shared_volume_or_s3() -> None:
    on_disk, in_s3 = render(VALUES["minimal"]), render(VALUES["gpu"])
    claim = only(on_disk, "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    mounted = next(v for v in pod(on_disk, "api")["volumes"] if v["name"] == "blobs")
    assert mounted["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    mount = next(m for m in container(on_disk, "api")["volumeMounts"] if m["name"] == "blobs")
    assert environment(on_disk, "api")["REACQUIRE_BLOB_URL"].startswith(f"file://{mount['mountPath']}/")
    assert "PersistentVolumeClaim" not in {o["kind"] for o in in_s3}
    assert environment(in_s3, "worker")["REACQUIRE_BLOB_URL"] == "s3://reacquire/blobs"
    assert container(in_s3, "worker")["envFrom"] == [{"secretRef": {"name": "reacquire-s3"}}]


def test_an_existing_claim_is_used_instead_of_ours() -> None:
    objects = render(changed("minimal", "blobs.persistence.existingClaim", "site-claim"))
    assert "PersistentVolumeClaim" not in {o["kind"] for o in objects}
    mounted = next(v for v in pod(objects, "worker")["volumes"] if v["name"] == "blobs")
    assert mounted["persistentVolumeClaim"]["claimName"] == "site-claim"


def test_bundles_of_the_site_are_mounted_read_only() -> None:
    objects = render(VALUES["gpu"])
    assert environment(objects, "worker")["REACQUIRE_BUNDLE"] == "/bundles/site-v1"
    assert environment(objects, "api")["REACQUIRE_BUNDLES_ROOT"] == "/bundles"
    mount = next(m for m in container(objects, "worker")["volumeMounts"] if m["name"] == "bundles")
    assert mount == {"name": "bundles", "mountPath": "/bundles", "readOnly": True}


def test_network_is_denied_by_default() -> None:
    objects = installed(render(VALUES["minimal"]))
    deny = only(objects, "NetworkPolicy", "-deny")["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny and "egress" not in deny
    labels = only(objects, "Deployment", "-api")["spec"]["template"]["metadata"]["labels"]
    assert deny["podSelector"]["matchLabels"].items() <= labels.items()
    assert not [p for p in policies(objects) if "ingress" in p]  # nobody was named, so nobody comes in
    out = [port["port"] for p in policies(objects) for rule in p.get("egress", []) for port in rule["ports"]]
    assert sorted(out) == [53, 53, 6379]


def test_named_peers_are_let_through() -> None:
    objects = installed(render(VALUES["gpu"]))
    into_api = only(objects, "NetworkPolicy", "-api")["spec"]["ingress"]
    assert [p["port"] for p in into_api[0]["ports"]] == [8000]
    names = [f["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for f in into_api[0]["from"]]
    assert names == ["ingress"]
    into_metrics = only(objects, "NetworkPolicy", "-api-metrics")["spec"]["ingress"]
    assert [p["port"] for p in into_metrics[0]["ports"]] == [9100]
    assert "monitoring" in str(into_metrics[0]["from"]) and "ingress" not in str(into_metrics[0]["from"])
    egress = only(objects, "NetworkPolicy", "-egress")["spec"]["egress"]
    assert {rule["ports"][0]["port"]: "to" in rule for rule in egress} == {53: False, 6379: True, 443: True}


def test_the_api_alone_reaches_the_identity_provider() -> None:
    policy = opening_to(installed(render(VALUES["oidc"])), 8443)
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "api"
    assert policy["egress"][0]["to"] == [{"ipBlock": {"cidr": "10.50.0.9/32"}}]


@pytest.mark.parametrize(
    ("scenario", "path", "value"),
    [
        ("keys", "api.access.keysSecret", ""),
        ("keys", "test.tokenSecret", ""),
        ("oidc", "test.tokenSecret", ""),
        ("oidc", "api.access.oidc.issuer", ""),
        ("oidc", "api.access.oidc.audience", ""),
        ("oidc", "networkPolicy.oidcTo", []),
    ],
)
def test_a_login_that_cannot_work_is_refused(scenario: str, path: str, value: Any) -> None:
    with pytest.raises(helm.HelmRenderError, match=f"{re.escape(path)} is required"):
        render(changed(scenario, path, value))


def test_without_a_policy_the_identity_provider_need_not_be_named() -> None:
    values = changed("oidc", "networkPolicy", {"enabled": False})
    assert environment(render(values), "api")["REACQUIRE_ACCESS"] == "oidc"


def test_disruption_budgets_select_the_pods(objects: list[dict[str, Any]]) -> None:
    for component in SETTINGS:
        selected = only(objects, "PodDisruptionBudget", f"-{component}")["spec"]["selector"]["matchLabels"]
        template = only(objects, "Deployment", f"-{component}")["spec"]["template"]
        assert selected.items() <= template["metadata"]["labels"].items()
        assert selected["app.kubernetes.io/component"] == component


def test_the_service_selects_the_api_only(objects: list[dict[str, Any]]) -> None:
    selector = only(objects, "Service", "-reacquire")["spec"]["selector"]
    labels = {
        c: only(objects, "Deployment", f"-{c}")["spec"]["template"]["metadata"]["labels"] for c in ("api", "worker")
    }
    assert selector.items() <= labels["api"].items()
    assert not selector.items() <= labels["worker"].items()


def test_recommended_labels_are_on_every_object(objects: list[dict[str, Any]]) -> None:
    wanted = {"name", "instance", "version", "part-of", "managed-by"}
    for each in objects:
        labels = each["metadata"]["labels"]
        assert {f"app.kubernetes.io/{name}" for name in wanted} <= set(labels)
        assert labels["helm.sh/chart"] == f"reacquire-{reacquire.__version__}"


def test_names_stay_within_the_limit_of_kubernetes() -> None:
    objects = render(VALUES["gpu"], name="r" * 53)
    assert max(len(o["metadata"]["name"]) for o in objects) <= 63


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replicas", 3),
        ("api.replica", 3),
        ("gpu.resource", "nvidia.com/gpu"),
        ("worker.image.tag", "1"),
        ("networkPolicy.redis", 6379),
        ("blobs.persistence.storage", "1Gi"),
        ("redis.internal.password", "secret"),
        ("pacs.sites", {}),
        ("scp.service.ports", [104]),
        ("autoscaling.hpa.memory", 70),
        ("autoscaling.keda.enabled", True),
        ("monitoring.rules.alerts", []),
        ("training.jobs", [{"name": "a", "args": ["x"], "gpus": 1, "gpu": 1}]),
        ("ingress.hosts", ["a.example"]),
        ("test.image", "busybox"),
        ("worker.tolerations", [{"keys": "x"}]),
        ("extraVolumes", [{"name": "a", "hostPath": {"path": "/"}}]),
    ],
)
def test_an_unknown_key_is_refused(path: str, value: Any) -> None:
    with pytest.raises(helm.HelmValuesError, match="not allowed"):
        render(changed("minimal", path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("runAs.user", 0),
        ("api.port", "http"),
        ("logLevel", "loud"),
        ("blobs.url", "s3://key:secret@bucket/prefix"),
        ("worker.image.digest", "latest"),
        ("extraEnv", [{"name": "REACQUIRE_REDIS_URL", "value": "redis://:secret@redis"}]),
        ("extraEnv", [{"name": "REACQUIRE_LEASE_S"}]),
        ("extraEnv", [{"name": "REACQUIRE_ALLOW_UNAUTHENTICATED", "value": "true"}]),
        ("extraVolumes", [{"name": "blobs", "persistentVolumeClaim": {"claimName": "a"}}]),
        ("extraVolumes", [{"name": "a"}]),
        ("extraVolumeMounts", [{"name": "a", "mountPath": "relative"}]),
        ("autoscaling.kind", "both"),
        ("ingress.paths", []),
        ("redis.internal.appendfsync", "no"),
        ("training.jobs", [{"name": "UPPER", "args": ["x"], "gpus": 1}]),
    ],
)
def test_an_unsound_value_is_refused(path: str, value: Any) -> None:
    with pytest.raises(helm.HelmValuesError):
        render(changed("minimal", path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("redis.existingSecret", "", "redis.existingSecret is required"),
        ("redis.existingSecret", "change-me", "redis.existingSecret is the placeholder"),
        ("redis.existingSecret", "<redis>", "redis.existingSecret is the placeholder"),
        ("redis.existingSecret", "your-secret", "redis.existingSecret is the placeholder"),
        ("blobs.url", "s3://bucket", "blobs.s3Secret is required"),
        ("api.allowUnauthenticated", False, "without a login"),
        ("ingress", {"enabled": True, "host": "a.example"}, "ingress.tlsSecret is required"),
        ("ingress", {"enabled": True, "tlsSecret": "tls"}, "ingress.host is required"),
        ("scp.enabled", True, "pacs.config is required"),
        ("cpuWorker.enabled", True, "raise worker.replicas"),
        ("autoscaling", {"kind": "keda"}, "autoscaling.keda.prometheus is required"),
        ("autoscaling", {"kind": "hpa", "minReplicas": 9}, "more than autoscaling.maxReplicas"),
        ("training.enabled", True, "training.existingClaim is required"),
    ],
)
def test_what_must_be_said_is_asked_for(path: str, value: Any, message: str) -> None:
    with pytest.raises(helm.HelmRenderError, match=message):
        render(changed("minimal", path, value))


def test_keys_are_a_file_of_a_secret_and_tokens_are_checked_against_the_issuer() -> None:
    keys = render(VALUES["keys"])
    assert environment(keys, "api")["REACQUIRE_ACCESS"] == "keys"
    assert environment(keys, "api")["REACQUIRE_KEYS_FILE"] == "/etc/reacquire/keys/keys.json"
    (volume,) = (v for v in pod(keys, "api")["volumes"] if v["name"] == "keys")
    assert volume["secret"] == {"secretName": "reacquire-keys", "defaultMode": 0o440}
    oidc = environment(render(VALUES["oidc"]), "api")
    assert (oidc["REACQUIRE_ACCESS"], oidc["REACQUIRE_OIDC_AUDIENCE"]) == ("oidc", "reacquire")
    assert oidc["REACQUIRE_OIDC_SCOPE_CLAIM"] == "realm_access.roles"
    assert "REACQUIRE_KEYS_FILE" not in oidc
    assert environment(keys, "worker").keys().isdisjoint({"REACQUIRE_ACCESS", "REACQUIRE_KEYS_FILE"})


@pytest.mark.parametrize("name", ["exchange-redis", "todos", "redis-replacement", "yours"])
def test_a_name_that_only_looks_like_a_placeholder_is_taken(name: str) -> None:
    objects = render(changed("minimal", "redis.existingSecret", name))
    assert environment(objects, "api")["REACQUIRE_REDIS_URL"]["secretKeyRef"]["name"] == name


def test_every_object_of_the_schema_is_closed() -> None:
    with helm.Chart.load(CHART) as chart:
        schema = chart.schema
    assert schema is not None

    def walk(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if isinstance(node.get("properties"), dict) and node.get("type") == "object":
                yield node
            for child in node.values():
                yield from walk(child)
        elif isinstance(node, list):
            for child in node:
                yield from walk(child)

    found = list(walk(schema))
    assert len(found) > 20
    assert all(node["additionalProperties"] is False for node in found)


def test_schema_and_values_name_the_same_keys() -> None:
    with helm.Chart.load(CHART) as chart:
        schema, values = chart.schema, chart.values
    assert schema is not None
    assert set(schema["properties"]) - {"global"} == set(values)

    def differing(described: dict[str, Any], given: dict[str, Any], path: str = "") -> Iterator[str]:
        for key, node in described.get("properties", {}).items():
            if node.get("$ref"):
                node = schema["definitions"][node["$ref"].rsplit("/", 1)[1]]
            if key not in given:
                yield f"{path}{key}"
            elif "properties" in node and isinstance(given[key], dict) and given[key]:
                yield from differing(node, given[key], f"{path}{key}.")

    missing = set(differing(schema, values)) - {"global"}
    # resources have no more defaults than they name
    assert not {path for path in missing if ".resources." not in path}


def test_chart_and_program_have_one_version() -> None:
    with helm.Chart.load(CHART) as chart:
        assert chart.version == chart.metadata["appVersion"] == reacquire.__version__


def test_the_chart_packs_and_loads_again(tmp_path: Path) -> None:
    archive = helm.package(CHART, destination=tmp_path)
    with helm.Chart.load(archive) as chart:
        assert len(chart.render(VALUES["minimal"], name="demo")) == len(list((CHART / "templates").glob("[!_]*")))
