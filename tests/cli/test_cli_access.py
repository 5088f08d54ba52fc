"""Keys and the audit trail from the command line."""

import json

import pytest
from typer.testing import CliRunner

from cli.access import audit_log, keys
from reacquire.access.keys import KeyRing
from reacquire.trail import Event, Trail


@pytest.fixture
def run():
    return lambda app, *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_key_is_made_listed_and_revoked(run, tmp_path):
    file = tmp_path / "keys.json"
    made = run(
        keys, "new", "--file", file, "-s", "predict", "-s", "segment", "--per-minute", 30, "--days", 5, "--note", "PACS"
    )
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    assert KeyRing(file).identify(key).scopes == {"predict", "segment"}
    (listed,) = json.loads(run(keys, "list", "--file", file).stdout)
    assert (listed["scopes"], listed["per_minute"], listed["note"]) == (["predict", "segment"], 30, "PACS")
    assert "sha256" not in listed
    assert run(keys, "revoke", "--file", file, listed["id"]).exit_code == 0
    assert json.loads(run(keys, "list", "--file", file).stdout) == []
    assert run(keys, "revoke", "--file", file, listed["id"]).exit_code == 1


def test_an_unknown_scope_is_refused_and_nothing_written(run, tmp_path):
    file = tmp_path / "keys.json"
    assert run(keys, "new", "--file", file, "-s", "everything").exit_code == 1
    assert not file.exists()


def test_a_broken_file_is_left_alone(run, tmp_path):
    file = tmp_path / "keys.json"
    file.write_text("[{]")
    assert run(keys, "new", "--file", file, "-s", "predict").exit_code == 1
    assert file.read_text() == "[{]"


def test_the_trail_is_verified(run, tmp_path):
    trail = Trail(tmp_path, "service")
    for _ in range(3):
        trail.record(Event(action="submit", who="anyone"))
    assert run(audit_log, "verify", tmp_path).exit_code == 0
    assert "not ended" in run(audit_log, "verify", tmp_path).stdout
    trail.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes().replace(b"anyone", b"nobody", 1))
    found = run(audit_log, "verify", tmp_path)
    assert (found.exit_code, "line 2" in found.stdout) == (1, True)
