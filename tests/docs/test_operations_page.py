"""docs/operations.md and docs/security.md against the chart and the settings that they speak of."""

import re
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest

from gateway.scp import ScpSettings
from gateway.settings import GatewaySettings
from reacquire.pacs.config import ScpConfig
from service.settings import ServiceSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "reacquire"
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("operations", "security")}
TEXTS = PAGES | {"chart": (CHART / "README.md").read_text(encoding="utf-8")}


def found_in(values: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


@pytest.mark.parametrize("page", TEXTS)
def test_values_that_the_page_names_exist(page: str) -> None:
    with helm.Chart.load(CHART) as chart:
        values = chart.values
    values["pacs"] |= {"tls": {"ca_file": ""}}  # keys of the PACS file, not of the chart
    values["scp"] |= dict.fromkeys(ScpConfig.model_fields)
    values["tls"] = {"ca_file": "", "crt": "", "key": ""}
    # `redis.existingSecret`, `autoscaling.kind=keda`, but not file names or the fields of Kubernetes
    named = re.findall(r"`([a-z]\w+(?:\.\w+)+)(?:=[^`]*)?`", TEXTS[page])
    mine = [path for path in named if path.split(".")[0] in values]
    assert len(mine) >= 3
    assert [path for path in mine if not found_in(values, path)] == []


@pytest.mark.parametrize("page", PAGES)
def test_variables_that_the_page_names_are_settings(page: str) -> None:
    every = (ServiceSettings, WorkerSettings, GatewaySettings, ScpSettings)
    known = {name for settings in every for name in settings.model_fields}
    assert {name.lower() for name in re.findall(r"REACQUIRE_([A-Z_]+)", PAGES[page])} <= known


def test_periods_are_those_of_the_code() -> None:
    worker, scp = WorkerSettings(), ScpConfig()
    assert 3 * worker.republish_s == 90
    assert "ends itself after 90 s" in PAGES["operations"]
    assert (worker.lease_s, worker.result_ttl_s, worker.tombstone_ttl_s) == (30, 86_400, 604_800)
    assert (scp.keep_s, scp.quarantine_days, scp.least_free_bytes) == (3600, 7, 512 * 2**20)
    assert GatewaySettings().pacs_patience_s == 3600


def test_the_chart_describes_each_of_its_scenarios() -> None:
    listed = TEXTS["chart"].split("| scenario")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", listed.split("|---|---|")[1])) == {
        path.stem.removesuffix("-values") for path in (CHART / "ci").glob("*-values.yaml")
    }


def test_secrets_of_the_table_are_those_of_the_chart() -> None:
    templates = "".join(path.read_text(encoding="utf-8") for path in (CHART / "templates").glob("*"))
    asked = set(re.findall(r'"reacquire\.secretName" \(dict "name" "([\w.]+)"', templates))
    table = PAGES["operations"].split("| value | Secret | keys |")[1].split("\n\n")[0]
    assert asked <= set(re.findall(r"^\s*\| `([\w.]+)`", table, flags=re.MULTILINE))
