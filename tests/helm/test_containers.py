"""Dockerfile and compose file as text: stages, users, health checks, and variables that the programs really read."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import helm_python as helm
import pytest

import reacquire
from service.settings import ServiceSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = helm.values_from_yaml((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
TARGETS = ("service", "worker-cpu", "worker", "training")
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


@pytest.fixture(scope="module")
def reader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docker_requirements", ROOT / "docker" / "requirements.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("target", TARGETS)
def test_no_image_runs_as_root(target: str) -> None:
    users = re.findall(r"^USER (\S+)", lineage(target), flags=re.MULTILINE)
    assert users[-1:] == ["10001:10001"]


@pytest.mark.parametrize(
    ("target", "forbidden"), [("service", "worker"), ("worker", "service"), ("training", "worker")]
)
def test_an_image_holds_no_package_that_its_process_may_not_import(target: str, forbidden: str) -> None:
    copied = re.findall(r"^COPY (\w+) ", lineage(target), flags=re.MULTILINE)
    assert "reacquire" in copied
    assert forbidden not in copied


def test_dependencies_come_before_the_source() -> None:
    for name, (_, body) in stages().items():
        if name.startswith("dependencies"):
            assert not re.search(r"^COPY (reacquire|service|worker|training)\b", body, flags=re.MULTILINE)
            for install in re.findall(r"pip install [^&\n]*", body):
                assert "-c constraints.txt" in install


@pytest.mark.parametrize("target", ["service", "worker-cpu", "worker"])
def test_servers_have_health_checks_without_a_shell(target: str) -> None:
    checks = re.findall(r"^HEALTHCHECK .*?CMD (.*)", lineage(target), flags=re.MULTILINE)
    assert len(checks) == 1
    assert checks[0].startswith('["python", "-c"')


@pytest.mark.parametrize("target", ["service", "worker"])
def test_variables_of_the_images_are_settings(target: str) -> None:
    model = SETTINGS["api" if target == "service" else "worker"]
    names = re.findall(r"\bREACQUIRE_([A-Z_]+)", lineage(target))
    assert names
    shared = ServiceSettings.model_fields | model.model_fields
    assert {name.lower() for name in names} <= set(shared)


def test_images_bind_loopback_unless_told_otherwise() -> None:
    assert not re.search(r"^ENV .*(REACQUIRE_HOST|ALLOW_UNAUTHENTICATED)", lineage("service"), flags=re.MULTILINE)


def test_the_service_needs_no_torch(reader: ModuleType) -> None:
    service = reader.requirements(PYPROJECT, ["service", "codecs"])
    assert {"fastapi", "pydicom", "pylibjpeg"} <= set(service)
    assert not {"torch", "monai", "matplotlib", "highdicom", "scipy"} & set(service)


def test_extras_are_followed_into_each_other(reader: ModuleType) -> None:
    worker = reader.requirements(PYPROJECT, ["worker"])
    assert {"torch", "celery-batches", "python-gdcm"} <= set(worker)
    assert not [line for line in worker if "reacquire" in line]
    with pytest.raises(KeyError):
        reader.requirements(PYPROJECT, ["nonsense"])


def test_every_direct_dependency_of_the_images_is_pinned(reader: ModuleType) -> None:
    pins = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    pins = {name.replace("_", "-") for name in pins}
    wanted = reader.requirements(PYPROJECT, ["service", "worker", "training"])
    assert {name.lower().split("[")[0] for name in wanted} <= pins


@pytest.mark.parametrize("extra", ["service", "worker"])
def test_celery_brings_what_its_redis_transport_imports(reader: ModuleType, extra: str) -> None:
    # plain "celery" leaves out packaging, without which the first publish in the service's image fails
    assert "celery[redis]" in reader.requirements(PYPROJECT, [extra])


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
