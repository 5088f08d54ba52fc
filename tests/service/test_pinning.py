"""A request names its bundle, or takes the active one; what is told of bundles, Redis or no Redis."""

import json
from dataclasses import replace

import pytest
import redis
from hollow_bundle import hollow_bundle

from reacquire.bundles import BundleStore
from reacquire.errors import BundleError
from reacquire.jobs.activation import Activations
from reacquire.jobs.presence import Presence, WorkerInfo
from reacquire.jobs.store import JobStore
from reacquire.trail import Trail, verify_folder
from service import models

OLD, NEW = "hollow@0.0.1", "hollow@0.0.2"


@pytest.fixture
def refs(settings):
    """The bundles of the service's folder, by label; a third one there is broken."""
    for label in (OLD, NEW):
        hollow_bundle(settings.bundles_root, label)
    (hollow_bundle(settings.bundles_root, "torn@0.0.1") / "models" / "editor.safetensors").write_text("torn")
    return {info.ref.label: info.ref for info in BundleStore(settings.bundles_root).inventory().sound}


@pytest.fixture
def activations(app):
    return app.state.context.activations


def send(client, slice_, pin=None, **headers):
    headers |= {"X-Model-Version": pin} if pin else {}
    return client.post("/v1/segment", files={"dicom": slice_}, headers={"Prefer": "respond-async"} | headers)


def test_a_pin_is_kept_with_the_job_and_told(client, slice_, refs, activations, store):
    activations.establish(refs[OLD])
    pinned, free = send(client, slice_, NEW), send(client, slice_)
    assert [a.headers["X-Model-Version"] for a in (pinned, free)] == [NEW, OLD]
    assert [a.json()["bundle"]["sha256"] for a in (pinned, free)] == [refs[NEW].sha256, refs[OLD].sha256]
    assert store.get(pinned.json()["id"]).bundle == refs[NEW]


@pytest.mark.parametrize(
    ("pin", "status", "code", "says"),
    [
        ("hollow@9.9.9", 404, "model-not-found", "there are: hollow@0.0.1, hollow@0.0.2"),
        ("torn@0.0.1", 404, "model-not-found", "editor.safetensors does not have the hash"),
        ("hollow", 422, "invalid-request", "/x-model-version"),
        ("../../etc@1.0.0", 422, "invalid-request", "/x-model-version"),
    ],
)
def test_a_pin_that_names_nothing_sound_is_refused(client, slice_, refs, pin, status, code, says, store):
    answer = send(client, slice_, pin)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert says in answer.text
    assert store.depth() == 0


def test_the_same_key_under_another_pin_is_another_request(client, slice_, refs, pause):
    pause()
    first, again, other = (send(client, slice_, pin, **{"Idempotency-Key": "k"}) for pin in (OLD, OLD, NEW))
    assert again.json()["id"] == first.json()["id"]
    assert other.json()["code"] == "idempotency-mismatch"


def test_models_tell_what_is_active_warm_and_refused(client, refs, activations, store):
    activations.establish(refs[OLD])
    activations.commit(activations.propose(refs[NEW], patience_s=9))
    Presence(store).beat(WorkerInfo("v", "cpu", "hollow-0.0.2", "0", warm={refs[NEW].sha256: NEW}))
    answer = client.get("/v1/models").json()
    shown = [(m["version"], m["active"], m["previous"], m["warm_workers"]) for m in answer["models"]]
    assert shown == [("0.0.1", False, True, 0), ("0.0.2", True, False, 1)]
    assert answer["active"]["sha256"] == refs[NEW].sha256
    assert [r["folder"] for r in answer["refused"]] == ["torn-0.0.1"]
    assert [NEW] in [w["warm"] for w in answer["workers"]]
    one = client.get("/v1/models/hollow").json()
    assert (one["version"], one["versions"]) == ("0.0.2", ["0.0.1", "0.0.2"])
    assert client.get(f"/v1/models/{OLD}").json()["previous"] is True
    assert client.get("/v1/models/hollow@7.0.0").status_code == 404


def test_bundles_are_listed_while_redis_is_away(client, app, refs):
    away = JobStore(redis.Redis(port=1), app.state.context.settings)
    app.state.context = replace(app.state.context, activations=Activations(away))
    answer = client.get("/v1/models").json()
    assert (answer["live"], answer["active"], len(answer["models"])) == (False, None, 2)


def test_readiness_says_when_no_worker_has_the_active_bundle(client, refs, activations, store):
    def told() -> str:
        return next(c["detail"] for c in client.get("/readyz").json()["checks"] if c["name"] == "worker")

    activations.establish(refs[NEW])
    Presence(store).beat(WorkerInfo("w", "cpu", "hollow-0.0.1", "0", warm={refs[OLD].sha256: OLD}))
    assert told() == "1 alive, none with the active bundle hollow@0.0.2 warm"
    Presence(store).beat(WorkerInfo("w", "cpu", "hollow-0.0.2", "0", warm={refs[NEW].sha256: NEW}))
    assert told() == "1 alive"


@pytest.fixture
def command(config, settings, monkeypatch, capsys):
    """``service.models`` with this test's store; answers status, stdout and stderr."""
    monkeypatch.setenv("REACQUIRE_REDIS_URL", config.redis_url.get_secret_value())
    monkeypatch.setenv("REACQUIRE_KEY_PREFIX", config.key_prefix)
    monkeypatch.setenv("REACQUIRE_BUNDLES_ROOT", str(settings.bundles_root))

    def run(*words: str):
        return models.main(words), *capsys.readouterr()

    return run


def test_the_command_switches_and_goes_back(command, refs, activations):
    activations.establish(refs[OLD])
    assert command("activate", NEW, "--cold") == (0, f"{NEW} is active\n", "")
    assert activations.read().active == refs[NEW]
    assert command("rollback", "--cold") == (0, f"{OLD} is active again\n", "")
    status, out, _ = command("active")
    assert status == 0
    assert '"0.0.2"' in out.split('"previous"')[1]


def test_a_switch_is_on_record_with_its_weights_and_so_is_one_that_was_refused(
    command, refs, activations, tmp_path, monkeypatch
):
    trail = tmp_path / "trail"
    monkeypatch.setenv("REACQUIRE_TRAIL_DIR", str(trail))
    activations.establish(refs[OLD])
    assert command("activate", NEW, "--cold")[0] == 0
    assert command("rollback", "--cold")[0] == 0
    monkeypatch.setattr(models.Switch, "activate", refuse)
    assert command("activate", NEW)[0] == 1
    events = [
        json.loads(line) for path in sorted(trail.iterdir(), key=written) for line in path.read_text().splitlines()
    ]
    told = [(e["who"], e["model"], e.get("outcome")) for e in events if e["action"] == "activate"]
    assert told == [
        ("operator", refs[NEW].sha256, None),
        ("operator", refs[OLD].sha256, None),
        ("operator", refs[NEW].sha256, None),
        ("operator", refs[NEW].sha256, "activation-failed"),
    ]
    assert all(broken == [] for _, _, broken in verify_folder(trail))


def refuse(*_):
    raise BundleError("no worker", code="activation-failed")


def written(path):
    return path.stat().st_mtime_ns


def test_nothing_is_switched_off_the_record(command, refs, activations, tmp_path, monkeypatch):
    monkeypatch.setenv("REACQUIRE_TRAIL_DIR", str(tmp_path / "trail"))
    monkeypatch.setattr(Trail, "record", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    activations.establish(refs[OLD])
    status, _, err = command("activate", NEW, "--cold")
    assert (status, activations.read().active) == (1, refs[OLD])
    assert "the audit trail cannot be written [not-ready]" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["activate", "hollow@9.9.9"], "there are: hollow@0.0.1, hollow@0.0.2"),
        (["activate", "torn@0.0.1"], "editor.safetensors does not have the hash"),
        (["activate", NEW], "no worker is alive"),
        (["rollback"], "no bundle was active before"),
        (["pull", "nosuch://b/a"], "nosuch://b/a cannot be read"),
    ],
)
def test_the_command_says_why_not(command, refs, activations, words, says):
    activations.establish(refs[OLD])
    status, out, err = command(*words)
    assert (status, out) == (1, "")
    assert says in err
    assert activations.read().active == refs[OLD]


def test_there_is_no_way_back_to_a_bundle_that_was_removed(command, refs, activations, settings):
    activations.establish(refs[OLD])
    activations.commit(activations.propose(refs[NEW], patience_s=9))
    (settings.bundles_root / "hollow-0.0.1" / "manifest.json").unlink()
    status, _, err = command("rollback", "--cold")
    assert (status, activations.read().active) == (1, refs[NEW])
    assert "hollow@0.0.1 is no longer in" in err


def test_the_command_says_that_redis_is_away(command, refs, monkeypatch):
    monkeypatch.setenv("REACQUIRE_REDIS_URL", "redis://127.0.0.1:1/0")
    status, _, err = command("activate", NEW)
    assert status == 1
    assert "nothing was changed" in err
