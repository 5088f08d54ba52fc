"""docker/compose.pacs.yaml as text: valid settings, secrets from outside, loopback only, and the hook it tells."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import reacquire
from gateway.scp import ScpSettings
from gateway.settings import GatewaySettings
from reacquire.pacs.config import load_pacs_config
from service.settings import ServiceSettings

DOCKER = Path(__file__).resolve().parents[2] / "docker"
TEXT = (DOCKER / "compose.pacs.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(TEXT)["services"]
BASE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
ORTHANC = json.loads((DOCKER / "pacs" / "orthanc.json").read_text(encoding="utf-8"))
OURS = {"api": ServiceSettings, "courier": GatewaySettings, "scp": ScpSettings}


def variables(name: str) -> dict[str, Any]:
    """The environment of a process of ours, the base file's included."""
    return BASE["services"].get(name, {}).get("environment", {}) | COMPOSE[name]["environment"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_variables_make_valid_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in variables(name).items():
        if variable.startswith("REACQUIRE_"):
            assert variable.removeprefix("REACQUIRE_").lower() in OURS[name].model_fields, variable
            monkeypatch.setenv(variable, re.sub(r"\$\{\w+:\?[^}]*\}", "4b1d0c5e9a7f", value))
    assert OURS[name]().pacs_config == Path("/etc/reacquire/pacs.yaml")


@pytest.mark.parametrize("name", ["courier", "scp"])
def test_prometheus_scrapes_the_gateway(name: str) -> None:
    scraped = yaml.safe_load((DOCKER / "prometheus.yaml").read_text(encoding="utf-8"))["scrape_configs"]
    (found,) = [target for job in scraped if job["job_name"] == name for target in job["dns_sd_configs"]]
    told = variables(name)
    assert (found["names"], str(found["port"])) == ([name], told["REACQUIRE_METRICS_PORT"])
    assert told["REACQUIRE_METRICS_HOST"] == "0.0.0.0", "on loopback nobody could"


def test_the_configuration_is_valid_and_its_secret_is_given() -> None:
    site = load_pacs_config(DOCKER / "pacs" / "pacs.yaml").sites["orthanc"]
    assert site.auth.secret_env in COMPOSE["courier"]["environment"]
    assert site.base_url.host == "orthanc"


def test_no_secret_stands_in_a_file() -> None:
    for name in ("ORTHANC_PASSWORD", "REACQUIRE_HOOK_TOKEN"):
        assert re.search(rf"\$\{{{name}:\?", TEXT)
    assert "RegisteredUsers" not in ORTHANC


def test_everything_is_published_on_loopback_only() -> None:
    published = [port for service in COMPOSE.values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_orthanc_runs_our_hook_and_is_told_where_to() -> None:
    lua = (DOCKER.parent / "examples" / "orthanc" / "route.lua").read_text(encoding="utf-8")
    told = {name for name in COMPOSE["orthanc"]["environment"] if name.startswith("REACQUIRE_")}
    assert told == set(re.findall(r"os\.getenv\('(\w+)'\)", lua))
    assert COMPOSE["orthanc"]["environment"]["REACQUIRE_SITE"] in load_pacs_config(DOCKER / "pacs" / "pacs.yaml").sites
    assert ORTHANC["LuaScripts"] == ["/etc/orthanc/route.lua"]
    assert ORTHANC["Dictionary"] == {"0008,001c": ["CS", "SyntheticData", 1, 1]}
    assert ORTHANC["OverwriteInstances"] is False


@pytest.mark.parametrize("name", ["courier", "scp"])
def test_our_processes_are_confined(name: str) -> None:
    assert COMPOSE[name]["read_only"] is True
    assert COMPOSE[name]["cap_drop"] == ["ALL"]
    assert COMPOSE[name]["image"].endswith(f":{reacquire.__version__}")


def test_files_that_are_mounted_are_there() -> None:
    for service in COMPOSE.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).is_file(), source
