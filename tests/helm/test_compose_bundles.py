"""docker/compose.bundles.yaml as text: valid settings, read-only for those who serve, and a pull that is asked for."""

import re
from pathlib import Path

import pytest
import yaml

import reacquire
from service import models
from service.settings import ServiceSettings
from worker.settings import WorkerSettings

SERVICES = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "docker" / "compose.bundles.yaml").read_text(encoding="utf-8")
)["services"]


@pytest.mark.parametrize(("name", "settings"), [("api", ServiceSettings), ("worker", WorkerSettings)])
def test_processes_are_told_the_folder_and_may_not_write_there(name, settings, monkeypatch):
    for variable, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:\?[^}]*\}", "site-v1", value))
    found = settings()
    assert found.bundles_root == Path("/bundles")
    assert getattr(found, "bundle", Path("/bundles/site-v1")) == Path("/bundles/site-v1")
    assert [volume.split(":/")[1] for volume in SERVICES[name]["volumes"]] == ["bundles:ro"]


def test_a_pull_is_a_command_and_no_service():
    pull = SERVICES["pull"]
    assert (pull["profiles"], pull["restart"]) == (["pull"], "no")
    assert models.parser().parse_args([*pull["entrypoint"][3:], "s3://b/a"]).command == "pull"
    assert pull["image"] == f"reacquire-service:{reacquire.__version__}"
    assert pull["volumes"][0].endswith(":/bundles")
