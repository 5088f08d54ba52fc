"""docs/pacs.md against the code: its examples are valid, and the names it uses exist."""

import re
from pathlib import Path

import pytest
import yaml

from cli.main import app as commands
from gateway.scp import ScpSettings
from gateway.settings import GatewaySettings
from reacquire.errors import every_code
from reacquire.pacs.config import PacsConfig
from service.settings import ServiceSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "pacs.md").read_text(encoding="utf-8")
SETTINGS = ServiceSettings.model_fields | GatewaySettings.model_fields | ScpSettings.model_fields
FOREIGN = {"REACQUIRE_HOOK_URL", "REACQUIRE_SITE"}  # read by route.lua


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_yaml_of_the_page_is_a_valid_configuration() -> None:
    first, scp = (yaml.safe_load(block) for block in blocks("yaml"))
    config = PacsConfig.model_validate(first)
    assert config.rules[0].return_to in config.sites
    assert PacsConfig.model_validate(scp).scp.allowed_callers == ["PACS"]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"REACQUIRE_[A-Z_]+", PAGE)) - FOREIGN))
def test_variables_exist(name: str) -> None:
    assert name.removeprefix("REACQUIRE_").lower() in SETTINGS


def test_commands_exist() -> None:
    known = {command.name or command.callback.__name__ for command in commands.registered_commands}
    assert set(re.findall(r"`reacquire ([a-z-]+)", PAGE)) <= known


@pytest.mark.parametrize("code", ["pacs-unreachable", "pacs-refused", "already-synthetic"])
def test_codes_exist(code: str) -> None:
    assert f"`{code}`" in PAGE
    assert code in every_code()


def test_lua_is_told_what_it_reads() -> None:
    lua = (ROOT / "examples" / "orthanc" / "route.lua").read_text(encoding="utf-8")
    for name in re.findall(r"os\.getenv\('(\w+)'\)", lua):
        assert name in PAGE


def test_the_picture_is_small_and_there() -> None:
    picture = ROOT / "docs" / "images" / "counterfactual-in-orthanc.png"
    assert 10_000 < picture.stat().st_size < 300_000
