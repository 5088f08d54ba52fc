"""The command line: discovery, targets, exit statuses, files written; the operations run on small random networks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
import typer
from builders import SECRET, make_mr
from tiny_bundle import pack_tiny
from typer.testing import CliRunner

from cli.doctor import CHECKS, run_check
from cli.main import app, parse_target

runner = CliRunner()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return pack_tiny(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "slice.dcm"
    path.write_bytes(make_mr())
    return path


def invoke(*arguments: object):
    return runner.invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_version_and_help_answer_at_once():
    assert invoke("--version").output.startswith("reacquire 0.")
    commands = ("serve", "worker", "counterfactual", "segment", "predict-iap", "models", "doctor")
    assert all(command in invoke("--help").output for command in commands)


def test_pairs_and_json_make_one_target(tmp_path):
    file = tmp_path / "target.json"
    file.write_text('{"EchoTime": 2.4}')
    expected = {"EchoTime": 2.4, "FlipAngle": 12.0, "Manufacturer": "SIEMENS"}
    assert parse_target(["FlipAngle=12", "Manufacturer = SIEMENS"], f"@{file}") == expected


@pytest.mark.parametrize(("pairs", "text"), [(["EchoTime"], None), (["=1"], None), ([], "{"), ([], "@/nonexistent")])
def test_an_unreadable_target_is_a_usage_error(pairs, text):
    with pytest.raises(typer.Exit) as leaving:
        parse_target(pairs, text)
    assert leaving.value.exit_code == 2


def test_a_counterfactual_is_written_into_a_folder(source, bundle, tmp_path):
    out = tmp_path / "out"
    run = invoke("counterfactual", "-i", source, "-o", out, "-t", "MagneticFieldStrength=1.5", "--bundle", bundle,
                 "--device", "cpu", "--json", "--allow-synthetic")  # fmt: skip
    assert run.exit_code == 0, run.output
    names = {p.name for p in out.iterdir()}
    assert {"result.json", "preview.png"} <= names
    (dicom,) = [n for n in names if n.startswith("counterfactual")]
    assert (out / dicom).read_bytes()[128:132] == b"DICM"
    assert json.loads((out / "result.json").read_text())


@pytest.mark.parametrize(("values", "expected"), [("target", 2.4), ("source", 1.42), ("blank", None)])
def test_the_header_gets_the_values_that_were_asked_for(source, bundle, tmp_path, values, expected):
    out = tmp_path / "out.dcm"
    run = invoke("counterfactual", "-i", source, "-o", out, "-t", "EchoTime=2.4", "--bundle", bundle,
                 "--steps", 1, "--device", "cpu", "--header-values", values)  # fmt: skip
    assert run.exit_code == 0, run.output
    assert pydicom.dcmread(out).EchoTime == expected


def test_one_file_is_picked_by_its_suffix(source, bundle, tmp_path):
    out = tmp_path / "new" / "seg.dcm"
    run = invoke("segment", "-i", source, "-o", out, "--bundle", bundle, "--device", "cpu")
    assert run.exit_code == 0, run.output
    assert out.read_bytes()[128:132] == b"DICM"
    assert "wrote" in run.output


def test_a_prediction_goes_to_stdout(source, bundle):
    run = invoke("predict-iap", "-i", source, "--bundle", bundle, "--device", "cpu")
    assert run.exit_code == 0
    assert json.loads(run.stdout)


def test_a_refusal_has_its_code_and_status_1(tmp_path, bundle):
    path = tmp_path / "us.dcm"
    path.write_bytes(make_mr(Modality="US"))
    run = invoke("segment", "-i", path, "--bundle", bundle, "--device", "cpu")
    assert run.exit_code == 1
    assert "unsupported-modality" in run.stderr
    as_json = invoke("segment", "-i", path, "--bundle", bundle, "--device", "cpu", "--json")
    assert json.loads(as_json.stderr.splitlines()[-1])["code"] == "unsupported-modality"
    assert SECRET not in run.output + as_json.output


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("-t", "EchoTime=99"), 1),
        (("-t", "EchoTime=2.4", "-o", "SOURCE"), 1),
        ((), 2),
        (("--sampler", "euler"), 2),
        (("--steps", "0"), 2),
        (("--header-values", "mixed"), 2),
        (("--no-such-option",), 2),
    ],
)
def test_exit_statuses(source, bundle, tmp_path, arguments, status):
    words = [source if a == "SOURCE" else a for a in arguments]
    out = () if "-o" in words else ("-o", tmp_path / "out")
    run = invoke("counterfactual", "-i", source, "--bundle", bundle, "--device", "cpu", *out, *words)
    assert run.exit_code == status
    assert source.read_bytes() == make_mr()


def test_an_empty_folder_is_refused(tmp_path, bundle):
    (tmp_path / "empty").mkdir()
    assert invoke("segment", "-i", tmp_path / "empty", "--bundle", bundle).exit_code == 1


def test_models_lists_what_is_sound_and_refuses_what_is_not(bundle):
    listed = json.loads(invoke("models", "--root", bundle.parent, "--json").stdout)["models"]
    assert [m["name"] for m in listed] == ["tiny"]
    assert "tiny" in invoke("models", "--root", bundle.parent).output
    manifest = bundle / "manifest.json"
    sound = manifest.read_text()
    manifest.write_text(sound.replace('"name"', '"nome"', 1))
    try:
        broken = invoke("models", "--root", bundle.parent)
    finally:
        manifest.write_text(sound)
    assert broken.exit_code == 1
    assert "manifest.json" in broken.stderr


def test_what_changes_bundles_is_the_services_own_program(monkeypatch, tmp_path):
    become = []
    monkeypatch.setattr("cli.models.os.execv", lambda path, words: become.append(words))
    monkeypatch.setenv("REACQUIRE_BUNDLES_ROOT", "elsewhere")
    for words in (["activate", "tiny@0.0.1", "--patience", "3"], ["rollback"], ["active"], ["pull", "s3://b/a"]):
        invoke("models", "--root", tmp_path, *words)
        assert become.pop()[2:] == ["-m", "service.models", *words]
        assert os.environ["REACQUIRE_BUNDLES_ROOT"] == str(tmp_path)


def test_doctor_examines_everything(bundle):
    run = invoke("doctor", "--bundle", bundle, "--json")
    checks = {c["name"]: c["ok"] for c in json.loads(run.stdout)["checks"]}
    assert (run.exit_code, checks) == (0, dict.fromkeys(CHECKS, True))


def test_doctor_names_what_is_wrong(tmp_path, monkeypatch):
    assert "nothing" in run_check("bundle", tmp_path / "nothing").detail
    monkeypatch.setenv("REACQUIRE_REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")
    finding = run_check("redis", tmp_path)
    assert not finding.ok
    assert "hunter2" not in finding.detail
    assert invoke("doctor", "--bundle", tmp_path).exit_code == 1


def test_the_entry_point_runs():
    run = subprocess.run([sys.executable, "-c", "import cli.main; cli.main.app()", "--version"], capture_output=True)
    assert run.returncode == 0
