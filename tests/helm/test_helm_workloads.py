"""Every object of every scenario against the Kubernetes API, every pod against the restricted Pod Security Standard,
and the workloads beside API and worker: gateway, CPU pool and the number of workers, Redis."""

import importlib.util
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml
from chart_rendering import (
    SCENARIOS,
    VALUES,
    changed,
    container,
    environment,
    installed,
    only,
    opening_to,
    pod,
    pods,
    render,
)
from pydantic_settings import BaseSettings
from system_tools import system_tool

from gateway.scp import ScpSettings
from gateway.settings import GatewaySettings
from reacquire.pacs.config import PacsConfig

KUBERNETES = ("1.25", "1.33")  # the oldest that Chart.yaml takes, and a recent one
# custom resources have no schema in Kubernetes' own set; their fields are asserted below
CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject"}
# https://kubernetes.io/docs/concepts/security/pod-security-standards, restricted
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


@pytest.fixture(params=sorted(SCENARIOS))
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return render(VALUES[request.param])


@pytest.mark.skipif(importlib.util.find_spec("kubernetes_validate") is None, reason="kubernetes-validate is missing")
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_valid_in_kubernetes(version: str) -> None:
    import kubernetes_validate

    every = {json.dumps(o, sort_keys=True): o for values in VALUES.values() for o in render(values)}
    checked = [o for o in every.values() if o["kind"] not in CUSTOM]
    assert {"Deployment", "StatefulSet", "Job", "Ingress", "HorizontalPodAutoscaler"} <= {o["kind"] for o in checked}
    for each in checked:
        kubernetes_validate.validate(each, version, strict=True)


def test_names_are_unique(objects: list[dict[str, Any]]) -> None:
    names = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(names) == len(set(names))


def test_every_pod_meets_the_restricted_standard(objects: list[dict[str, Any]]) -> None:
    found = dict(pods(objects))
    assert len(found) >= 3
    for name, spec in found.items():
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert {key for volume in spec["volumes"] for key in volume if key != "name"} <= VOLUMES
        for process in spec["containers"] + spec.get("initContainers", []):
            context = process["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert not [port for port in process.get("ports", []) if "hostPort" in port]


def test_every_pod_has_limits_and_no_token(objects: list[dict[str, Any]]) -> None:
    for name, spec in pods(objects):
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        for process in spec["containers"]:
            assert "memory" in process["resources"]["limits"], name
            assert {"cpu", "memory"} <= set(process["resources"]["requests"])


def test_what_is_mounted_is_there(objects: list[dict[str, Any]]) -> None:
    maps = {o["metadata"]["name"]: set(o.get("data", {})) for o in objects if o["kind"] == "ConfigMap"}
    for name, spec in pods(objects):
        templates = only(objects, "StatefulSet")["spec"]["volumeClaimTemplates"] if name.endswith("-redis") else []
        volumes = {v["name"] for v in spec["volumes"]} | {t["metadata"]["name"] for t in templates}
        assert {m["name"] for process in spec["containers"] for m in process["volumeMounts"]} <= volumes
        assert {v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v} <= set(maps) | {"house-ca"}, (
            "the site's"
        )


def test_writable_folders_of_the_programs_are_volumes(objects: list[dict[str, Any]]) -> None:
    for _, spec in pods(objects):
        for process in spec["containers"]:
            mounts = [m["mountPath"] for m in process["volumeMounts"] if not m.get("readOnly")]
            told = {e["name"]: e.get("value", "") for e in process.get("env", [])}
            for name in ("REACQUIRE_READY_FILE", "REACQUIRE_SPOOL", "REACQUIRE_TRAIL_DIR"):
                assert name not in told or told[name].startswith(tuple(mounts)), name


def test_volumes_of_the_site_are_in_every_process_of_ours_and_nowhere_else() -> None:
    values = VALUES["pacs"] | {
        name: VALUES["trail"][name] for name in ("extraEnv", "extraVolumes", "extraVolumeMounts")
    }
    values |= {"bundles": VALUES["s3"]["bundles"]}
    values |= {"training": VALUES["training"]["training"]}
    objects = render(values)
    with_trail = set()
    for name, spec in pods(objects):
        claims = {v["name"]: v["persistentVolumeClaim"] for v in spec["volumes"] if "persistentVolumeClaim" in v}
        if "trail" in claims:
            with_trail.add(name.removeprefix("demo-reacquire-"))
            assert claims["trail"] == {"claimName": "reacquire-trail"}
            for process in spec["containers"] + spec.get("initContainers", []):
                assert values["extraVolumeMounts"] == [
                    m for m in process["volumeMounts"] if m["name"] in ("trail", "house-ca")
                ]
    assert with_trail == {"api", "worker", "worker-cpu", "courier", "scp"}
    others = [json.dumps(o) for o in render(VALUES["trail"]) if o["kind"] in ("NetworkPolicy", "PersistentVolumeClaim")]
    plain = [
        json.dumps(o) for o in render(VALUES["minimal"]) if o["kind"] in ("NetworkPolicy", "PersistentVolumeClaim")
    ]
    assert others == plain


@pytest.fixture(scope="module")
def with_pacs() -> list[dict[str, Any]]:
    return render(VALUES["pacs"])


def test_the_configuration_is_one_that_the_programs_take(with_pacs: list[dict[str, Any]]) -> None:
    text = only(with_pacs, "ConfigMap", "-pacs")["data"]["pacs.yaml"]
    config = PacsConfig.model_validate(yaml.safe_load(text))
    assert list(config.sites) == ["archive"]
    assert config.scp.host == "0.0.0.0"


@pytest.mark.parametrize("component", ["api", "courier", "scp"])
def test_whoever_needs_the_configuration_has_it(with_pacs: list[dict[str, Any]], component: str) -> None:
    path = environment(with_pacs, component)["REACQUIRE_PACS_CONFIG"]
    mounts = {m["name"]: m for m in container(with_pacs, component)["volumeMounts"]}
    assert path == mounts["pacs"]["mountPath"] + "/pacs.yaml"
    assert mounts["pacs"]["readOnly"] is True
    assert "REACQUIRE_PACS_CONFIG" not in environment(with_pacs, "worker")


def test_the_couriers_alone_hold_the_secrets_of_the_pacs(with_pacs: list[dict[str, Any]]) -> None:
    holders = [name for name, spec in pods(with_pacs) if any("secret" in v for v in spec["volumes"])]
    assert holders == ["demo-reacquire-courier"]
    assert {v["secret"]["secretName"] for v in pod(with_pacs, "courier")["volumes"] if "secret" in v} == {
        "reacquire-pacs"
    }


def test_a_changed_configuration_restarts_its_readers() -> None:
    def digest(values: dict[str, Any]) -> str:
        template = only(render(values), "Deployment", "-courier")["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/pacs-config"]

    text = VALUES["pacs"]["pacs"]["config"]
    assert digest(VALUES["pacs"]) != digest(changed("pacs", "pacs.config", text.replace("MR2", "MR3")))


@pytest.mark.parametrize(("component", "settings"), [("courier", GatewaySettings), ("scp", ScpSettings)])
def test_variables_of_the_gateway_are_settings(
    with_pacs: list[dict[str, Any]], component: str, settings: type[BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(with_pacs, component).items():
        assert name.removeprefix("REACQUIRE_").lower() in settings.model_fields
        monkeypatch.setenv(name, value if isinstance(value, str) else "redis://redis:6379/0")
    settings()


def test_the_token_of_the_hooks_comes_from_its_secret(with_pacs: list[dict[str, Any]]) -> None:
    token = environment(with_pacs, "api")["REACQUIRE_HOOK_TOKEN"]
    assert token == {"secretKeyRef": {"name": "reacquire-hook", "key": "token"}}
    assert "REACQUIRE_HOOK_TOKEN" not in environment(with_pacs, "courier")


def test_gateway_programs_are_started_by_name(with_pacs: list[dict[str, Any]]) -> None:
    assert container(with_pacs, "courier")["command"] == ["python", "-m", "gateway"]
    assert container(with_pacs, "scp")["command"] == ["python", "-m", "gateway.scp"]
    assert {container(with_pacs, c)["image"].split(":")[0] for c in ("courier", "scp")} == {"reacquire-gateway"}


def test_the_receiver_listens_where_the_service_and_the_policy_say() -> None:
    text = VALUES["pacs"]["pacs"]["config"].replace("11112", "11113")
    objects = render(changed("pacs", "pacs.config", text))
    ports = {p["name"]: p["containerPort"] for p in container(objects, "scp")["ports"]}
    service = only(objects, "Service", "-scp")["spec"]
    assert ports["dicom"] == 11113
    assert (service["ports"][0]["port"], service["ports"][0]["targetPort"]) == (104, "dicom")
    assert service["externalTrafficPolicy"] == "Local"
    ingress = only(objects, "NetworkPolicy", "-reacquire-scp")["spec"]["ingress"][0]
    assert ingress["ports"][0]["port"] == 11113
    assert ingress["from"] == [{"ipBlock": {"cidr": "10.30.0.0/16"}}]


def test_one_pod_owns_the_spool(with_pacs: list[dict[str, Any]]) -> None:
    spec = only(with_pacs, "Deployment", "-scp")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    volume = next(v for v in pod(with_pacs, "scp")["volumes"] if v["name"] == "spool")
    assert (
        only(with_pacs, "PersistentVolumeClaim", "-spool")["metadata"]["name"]
        == (volume["persistentVolumeClaim"]["claimName"])
    )


def test_the_courier_alone_reaches_the_pacs(with_pacs: list[dict[str, Any]]) -> None:
    policy = opening_to(installed(with_pacs), 8443)
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "courier"
    assert policy["egress"][0]["to"] == [{"ipBlock": {"cidr": "10.30.1.7/32"}}]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("pacs.config", "", "pacs.config is required"),
        ("pacs.config", "scp: {port: 11112}", "on loopback no scanner reaches the pod"),
        ("pacs.config", "scp: [", "pacs.config is not YAML"),
        ("pacs.existingSecret", "", "pacs.existingSecret is required"),
        ("pacs.existingSecret", "TODO", "is the placeholder"),
        ("networkPolicy.pacsTo", [], "networkPolicy.pacsTo is required"),
    ],
)
def test_a_gateway_that_cannot_work_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(helm.HelmRenderError, match=message):
        render(changed("pacs", path, value))


def test_cpu_workers_stand_beside_the_gpu_ones(with_pacs: list[dict[str, Any]]) -> None:
    gpu, cpu = container(with_pacs, "worker"), container(with_pacs, "worker-cpu")
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in cpu["resources"]["limits"]
    assert environment(with_pacs, "worker-cpu")["REACQUIRE_DEVICE"] == "cpu"
    assert (gpu["image"].split(":")[0], cpu["image"].split(":")[0]) == ("reacquire-worker", "reacquire-worker-cpu")
    same = ("REACQUIRE_REDIS_URL", "REACQUIRE_BLOB_URL", "REACQUIRE_BUNDLE")
    one, other = environment(with_pacs, "worker"), environment(with_pacs, "worker-cpu")
    assert {k: one[k] for k in same} == {k: other[k] for k in same}


@pytest.mark.parametrize(("scenario", "kind"), [("keda", "ScaledObject"), ("hpa", "HorizontalPodAutoscaler")])
def test_one_scaler_owns_the_number_of_workers(scenario: str, kind: str) -> None:
    objects = render(VALUES[scenario])
    scalers = [o for o in objects if o["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")]
    assert [o["kind"] for o in scalers] == [kind]
    worker = only(objects, "Deployment", "-worker")
    assert scalers[0]["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    assert "replicas" not in worker["spec"]  # an upgrade must not undo what the scaler decided
    assert only(render(VALUES["minimal"]), "Deployment", "-worker")["spec"]["replicas"] == 1


def test_keda_counts_waiting_and_running_jobs_of_this_release() -> None:
    objects = render(VALUES["keda"])
    spec = only(objects, "ScaledObject")["spec"]
    (trigger,) = spec["triggers"]
    metadata = trigger["metadata"]
    wanted = only(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    services = [o["metadata"] for o in objects if o["kind"] == "Service"]
    (scraped,) = [s["name"] for s in services if wanted.items() <= s["labels"].items()]
    where = f'{{namespace="imaging",service="{scraped}"}}'
    assert metadata["query"] == f"sum(max(reacquire_queue_depth{where}) + max(reacquire_jobs_in_progress{where}))"
    assert metadata["threshold"] == "16"
    assert metadata["ignoreNullValues"] == "false"  # no figures are no empty queue: else an outage ends the workers
    assert trigger["authenticationRef"] == {"name": "prometheus-login"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["fallback"]["replicas"]) == (0, 8, 1)
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] == 600


def test_the_load_of_cpus_does_not_scale_gpus() -> None:
    with pytest.raises(helm.HelmRenderError, match="use keda"):
        render(changed("hpa", "gpu.enabled", True))


def test_the_own_redis_keeps_what_it_was_told() -> None:
    spec = only(render(VALUES["internal-redis"]), "StatefulSet")["spec"]
    (process,) = spec["template"]["spec"]["containers"]
    told = dict(zip(process["args"][::2], process["args"][1::2], strict=True))
    assert (told["--appendonly"], told["--appendfsync"], told["--maxmemory-policy"]) == ("yes", "always", "noeviction")
    assert told["--requirepass"] == "$(REDIS_PASSWORD)"
    mounts = {m["name"]: m["mountPath"] for m in process["volumeMounts"]}
    assert mounts[spec["volumeClaimTemplates"][0]["metadata"]["name"]] == told["--dir"]
    password = next(e for e in process["env"] if e["name"] == "REDIS_PASSWORD")["valueFrom"]["secretKeyRef"]
    assert password == {"name": "reacquire-redis", "key": "redis-password"}


@pytest.mark.parametrize(
    ("registry", "image", "expected"),
    [
        ("", "", "docker.io/valkey/valkey:8-alpine"),
        ("registry.hospital.example/imaging/", "", "registry.hospital.example/imaging/valkey/valkey:8-alpine"),
        ("registry.hospital.example", "mirror.example/redis:7", "mirror.example/redis:7"),
    ],
)
def test_the_own_redis_comes_from_the_registry_of_the_house(registry: str, image: str, expected: str) -> None:
    values = changed("internal-redis", "image.registry", registry)
    values["redis"]["internal"]["image"] = image
    (process,) = only(render(values), "StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert process["image"] == expected


@pytest.mark.skipif(system_tool("redis-server") is None, reason="redis-server is missing (Debian: redis-server)")
def test_a_real_redis_takes_the_arguments_and_answers_the_probe(tmp_path: Path) -> None:
    values = changed("internal-redis", "redis.internal.server", "redis-server")
    values["redis"]["internal"]["client"] = "redis-cli"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        values["networkPolicy"]["redisPort"] = free.getsockname()[1]
    (process,) = only(render(values), "StatefulSet")["spec"]["template"]["spec"]["containers"]
    told = {"$(REDIS_PASSWORD)": "p w#1", "/data": str(tmp_path)}  # what Kubernetes fills in, and the volume
    command = [told.get(part, part) for part in process["command"] + process["args"]]
    command[0] = str(system_tool(command[0]))

    def ping(password: str) -> int:
        probe = process["readinessProbe"]["exec"]["command"]
        return subprocess.run(probe, env=os.environ | {"REDISCLI_AUTH": password}, capture_output=True).returncode

    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 20
            while ping("p w#1") != 0:
                assert time.monotonic() < deadline and server.poll() is None
                time.sleep(0.1)
            assert ping("wrong") != 0
            assert (tmp_path / "appendonlydir").is_dir()
        finally:
            server.terminate()


def test_the_own_redis_hears_our_processes_only() -> None:
    objects = render(VALUES["internal-redis"])
    (rule,) = only(objects, "NetworkPolicy", "-redis")["spec"]["ingress"]
    (peer,) = rule["from"]
    names = peer["podSelector"]["matchExpressions"][0]["values"]
    assert {"api", "worker", "courier"} <= set(names)
    assert not {"redis", "trainer", "test"} & set(names)
    egress = only(objects, "NetworkPolicy", "-reacquire-egress")["spec"]["egress"]
    to = next(r["to"] for r in egress if r["ports"][0]["port"] == 6379)
    assert to[0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "redis"
