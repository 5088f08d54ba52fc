"""The files that a hospital copies: they load, they fit together, and they say what they promise."""

import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from reacquire.pacs.config import PacsConfig, load_pacs_config
from reacquire.pacs.rules import judge

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "orthanc"
WANTED = {
    "Modality": ("MR",),
    "BodyPartExamined": ("BREAST",),
    "SeriesDescription": ("t1_dyn_pre",),
    "ImageType": ("ORIGINAL", "PRIMARY"),
}


@pytest.fixture
def config() -> PacsConfig:
    return load_pacs_config(FOLDER / "reacquire-pacs.yaml")


@pytest.fixture
def orthanc() -> dict:
    """Orthanc reads JSON with comments."""
    text = (FOLDER / "orthanc.json").read_text(encoding="utf-8")
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))


def test_the_rule_takes_what_its_comments_say(config):
    verdict = judge(config.rules, [WANTED] * 20)
    assert [action.operation for _, _, action in verdict.matches] == ["counterfactual", "segment", "predict-iap"]
    assert judge(config.rules, [WANTED] * 19).outcome == "unmatched"
    assert judge(config.rules, [{**WANTED, "SeriesDescription": ("localizer",)}] * 20).outcome == "unmatched"


def test_what_is_commented_out_works_when_the_marks_are_taken_away():
    text = (FOLDER / "reacquire-pacs.yaml").read_text(encoding="utf-8")
    keys = "webhook|  url|  secret_env|  api_url|ImageType|MagneticFieldStrength"
    config = PacsConfig.model_validate(yaml.safe_load(re.sub(rf"^( *)# (({keys}):)", r"\1\2", text, flags=re.M)))
    assert config.webhook is not None and config.webhook.api_url is not None
    assert set(config.rules[0].when) == {*WANTED, "MagneticFieldStrength"}


def test_a_misspelt_key_anywhere_is_refused(tmp_path):
    text = (FOLDER / "reacquire-pacs.yaml").read_text(encoding="utf-8")
    for key in ("base_url", "secret_env", "Modality", "least_instances", "operation", "return_to", "ae_title", "scp"):
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text(re.sub(rf"\b{key}:", f"{key}x:", text, count=1), encoding="utf-8")
        with pytest.raises(ValidationError):
            load_pacs_config(wrong)


def test_orthanc_and_reacquire_mean_the_same_doors(config, orthanc):
    site = config.sites["orthanc"]
    assert (site.base_url.port, site.base_url.path) == (orthanc["HttpPort"], orthanc["DicomWeb"]["Root"].rstrip("/"))
    assert site.auth.username in orthanc["RegisteredUsers"]
    assert orthanc["DicomModalities"]["reacquire"] == [config.scp.ae_title, "127.0.0.1", config.scp.port]
    assert config.scp.allowed_callers == [orthanc["DicomAet"]]
    assert orthanc["LuaScripts"] == ["route.lua"]


def test_the_hook_says_where_it_lives_and_holds_no_secret(orthanc):
    lua = (FOLDER / "route.lua").read_text(encoding="utf-8")
    for name in ("REACQUIRE_HOOK_URL", "REACQUIRE_HOOK_TOKEN", "REACQUIRE_SITE"):
        assert f"os.getenv('{name}')" in lua
    assert "/v1/hooks/orthanc" in lua and "OnStableSeries" in lua
    assert orthanc["HttpTimeout"] <= 5 and list(orthanc["RegisteredUsers"].values()) == ["CHANGE-ME"]
