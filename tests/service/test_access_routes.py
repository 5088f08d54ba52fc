"""Access over HTTP: who is let in, who sees which job, and what stands on record afterwards."""

import io
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from builders import make_mr
from pydantic import SecretStr

from reacquire.access.keys import add_key, new_key
from reacquire.trail import instance_mark, verify_folder
from service.settings import ServiceSettings

SCOPES = {
    "ann": ["predict", "segment"],
    "bob": ["segment", "counterfactual"],
    "root": ["admin"],
    "busy": ["segment"],
    "slow": ["segment"],
}
LIMITS = {"busy": {"concurrent": 2}, "slow": {"per_minute": 2}}


@pytest.fixture
def keys(tmp_path):
    """Keys by name, in a file."""
    found = {}
    for name, scopes in SCOPES.items():
        found[name], record = new_key(scopes, **LIMITS.get(name, {}))
        add_key(tmp_path / "keys.json", record)
    return found


@pytest.fixture
def settings(config, tmp_path, keys) -> ServiceSettings:
    access = {"access": "keys", "keys_file": tmp_path / "keys.json", "trail_dir": tmp_path / "trail"}
    return ServiceSettings(**config.model_dump() | access, bundles_root=tmp_path / "bundles")


@pytest.fixture
def post(client, keys, slice_):
    def send(name, operation="segment", **headers):
        key = {"Authorization": f"Bearer {keys[name]}"} if name else {}
        return client.post(f"/v1/{operation}", files={"dicom": slice_}, headers={**key, **headers})

    return send


def bearer(keys, name):
    return {"Authorization": f"Bearer {keys[name]}"}


@pytest.mark.parametrize("path", ["/v1/models", "/v1/capabilities", "/v1/jobs/" + "0" * 32])
def test_nobody_gets_in_without_a_key(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_probes_stay_open(client):
    assert [client.get(path).status_code for path in ("/livez", "/readyz", "/metrics")] == [200, 200, 200]


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_a_key_is_taken_from_either_header(client, keys, header):
    value = f"Bearer {keys['ann']}" if header == "Authorization" else keys["ann"]
    assert client.get("/v1/capabilities", headers={header: value}).status_code == 200


def test_a_scope_opens_its_operation_alone(post):
    assert post("ann").status_code in (200, 202)
    refused = post("root")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert post(None).status_code == 401


def test_a_job_is_its_owners_alone(client, keys, post):
    job = post("ann", Prefer="wait=10").headers["Location"]
    assert client.get(job, headers=bearer(keys, "ann")).status_code == 200
    assert client.get(job, headers=bearer(keys, "root")).status_code == 200
    for path, method in ((job, "GET"), (f"{job}/result", "GET"), (f"{job}/artifacts/segmentation.dcm", "GET"),
                         (f"{job}/events", "GET"), (f"{job}/cancel", "POST"), (job, "DELETE")):  # fmt: skip
        answer = client.request(method, path, headers=bearer(keys, "bob"))
        assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found"), path
    assert client.get(job, headers=bearer(keys, "ann")).json()["status"] == "succeeded"


def test_idempotency_keys_of_two_callers_do_not_meet(post):
    one, two = (post(name, **{"Idempotency-Key": "same"}).headers["Location"] for name in ("ann", "bob"))
    assert one != two
    assert post("ann", **{"Idempotency-Key": "same"}).headers["Location"] == one


def test_unfinished_jobs_are_bounded_and_freed(client, keys, post, pause):
    pause()
    first, second = (post("busy", Prefer="respond-async") for _ in range(2))
    third = post("busy", Prefer="respond-async")
    assert [first.status_code, second.status_code, third.status_code] == [202, 202, 429]
    assert (third.json()["code"], int(third.headers["Retry-After"]) > 0) == ("rate-limited", True)
    assert post("bob", Prefer="respond-async").status_code == 202
    assert client.post(first.headers["Location"] + "/cancel", headers=bearer(keys, "busy")).status_code == 202
    assert post("busy", Prefer="respond-async").status_code == 202
    assert client.delete(second.headers["Location"], headers=bearer(keys, "busy")).status_code == 204
    assert post("busy", Prefer="respond-async").status_code == 202
    assert post("busy", Prefer="respond-async").status_code == 429


def test_a_race_does_not_slip_past_the_bound(post, pause):
    pause()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post("busy", Prefer="respond-async").status_code, range(8)))
    assert sorted(answers) == [202] * 2 + [429] * 6


def test_the_minute_is_bounded(post):
    assert [post("slow", Prefer="respond-async").status_code for _ in range(3)] == [202, 202, 429]


def test_a_stranger_is_turned_away_before_his_body_is_there(client, settings):
    head = "POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as wire:
        wire.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode())
        answer = wire.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 401")
    last = on_record(settings)[-1]
    assert (last["action"], last["who"], last["outcome"]) == ("refuse", "unknown", "unauthorized")


def on_record(settings):
    (path,) = settings.trail_dir.iterdir()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_happened_is_on_record_and_names_nobody(client, keys, post, settings, slice_):
    job = post("ann", Prefer="wait=10").headers["Location"]
    client.get(f"{job}/result", headers=bearer(keys, "ann"))
    client.get("/v1/models", headers={"Authorization": "Bearer rq_nobody_x"})
    client.delete(job, headers=bearer(keys, "ann"))
    (path,) = settings.trail_dir.iterdir()
    events = on_record(settings)
    assert [(e["action"], e["who"][:4]) for e in events] == [
        ("start", "serv"), ("submit", "key-"), ("read", "key-"), ("read", "key-"), ("refuse", "unkn"),
        ("delete", "key-"),
    ]  # fmt: skip
    assert {e["job"] for e in events if "job" in e} == {job.rsplit("/", 1)[1]}
    assert "SECRET" not in path.read_text()
    assert [broken for _, _, broken in verify_folder(settings.trail_dir)] == [[]]


@pytest.mark.parametrize(
    ("name", "before", "code"), [("root", 0, "forbidden"), ("slow", 2, "rate-limited"), ("busy", 2, "rate-limited")]
)
def test_a_known_caller_who_is_refused_is_on_record_by_name(post, keys, settings, pause, name, before, code):
    pause()
    for _ in range(before):
        assert post(name, Prefer="respond-async").status_code == 202
    assert post(name, Prefer="respond-async").json()["code"] == code
    last = on_record(settings)[-1]
    assert (last["action"], last["operation"], last["outcome"]) == ("refuse", "segment", code)
    assert last["who"] == "key-" + keys[name].split("_")[1]


@pytest.fixture
def full(app, monkeypatch):
    """``with full():`` the trail cannot be written."""

    @contextmanager
    def block():
        with monkeypatch.context() as patched:
            patched.setattr(app.state.context.trail, "record", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
            yield

    return block


def test_a_job_that_cannot_be_put_on_record_is_taken_back(post, store, settings, pause, full):
    pause()
    with full():
        refused = post("ann", Prefer="respond-async", **{"Idempotency-Key": "once"})
    assert (refused.status_code, refused.json()["code"]) == (503, "not-ready")
    assert (store.depth(), list(store.client.scan_iter(store.key("job:*")))) == (0, [])
    assert [path for path in Path(settings.blob_url.removeprefix("file://")).rglob("*") if path.is_file()] == []
    accepted = post("ann", Prefer="respond-async", **{"Idempotency-Key": "once"})
    job_id = accepted.headers["Location"].rsplit("/", 1)[1]
    assert [e.get("job") for e in on_record(settings)] == [None, job_id]


@pytest.mark.parametrize("name", [None, "root"])
def test_nobody_is_refused_off_the_record(post, full, name):
    with full():
        assert post(name).json()["code"] == "not-ready"
    assert post(name).status_code in (401, 403)


def test_an_end_that_cannot_be_written_waits_and_shows_in_the_metrics(
    client, app, keys, post, settings, pause, full, monkeypatch
):
    pause()
    job = post("ann", Prefer="respond-async").headers["Location"]
    record = app.state.context.trail.record

    def all_but_ends(event):
        if event.action == "end":
            raise OSError(28, "full")
        record(event)

    def unwritten():
        return re.search(r"^reacquire_trail_unwritten (\S+)$", client.get("/metrics").text, re.MULTILINE).group(1)

    with monkeypatch.context() as patched:
        patched.setattr(app.state.context.trail, "record", all_but_ends)
        assert client.post(f"{job}/cancel", headers=bearer(keys, "ann")).json()["status"] == "cancelled"
        assert unwritten() == "1.0"
    assert unwritten() == "0.0"
    assert [e["action"] for e in on_record(settings)] == ["start", "submit", "cancel", "end"]


def test_a_job_that_is_cancelled_while_it_waits_has_ended(client, keys, post, settings, pause):
    pause()
    job = post("ann", Prefer="respond-async").headers["Location"]
    client.post(f"{job}/cancel", headers=bearer(keys, "ann"))
    (path,) = settings.trail_dir.iterdir()
    last = json.loads(path.read_text().splitlines()[-1])
    assert (last["action"], last["outcome"], last["who"][:4]) == ("end", "cancelled", "key-")


def test_instances_are_marked_under_the_sites_secret_alone(client, app, keys, post, settings):
    post("ann", Prefer="respond-async")
    secret = SecretStr("0b2f6c1e9d7a4835bd0f6a1c")
    known = settings.model_copy(update={"trail_secret": secret})
    app.state.context = replace(app.state.context, settings=known)
    post("ann", Prefer="respond-async")
    (path,) = settings.trail_dir.iterdir()
    _, without, with_mark = on_record(settings)
    uid = str(pydicom.dcmread(io.BytesIO(make_mr()), stop_before_pixels=True).SOPInstanceUID)
    assert ("instances" in without, with_mark["instances"]) == (
        False,
        [instance_mark(secret.get_secret_value().encode(), uid)],
    )
    assert uid not in path.read_text()


@pytest.mark.parametrize(
    ("access", "missing"),
    [({"access": "keys"}, "KEYS_FILE"), ({"access": "oidc"}, "OIDC_ISSUER"), ({"host": "0.0.0.0"}, "REACQUIRE_ACCESS"),
     ({"access": "oidc", "oidc_issuer": "http://idp.example", "oidc_audience": "x"}, "ISSUER must be an https")],
)  # fmt: skip
def test_settings_that_leave_the_door_open_are_refused(config, access, missing):
    with pytest.raises(ValueError, match=missing):
        ServiceSettings(**config.model_dump(), **access)


CLEAR = [
    "http://idp.example/keys",
    "http://127.0.0.1.evil.example/keys",
    "http://127.0.0.1@evil.example/keys",
    "https://",
]


@pytest.mark.parametrize("url", CLEAR)
@pytest.mark.parametrize("name", ["oidc_issuer", "oidc_jwks_url"])
def test_keys_that_others_could_replace_are_refused(config, name, url):
    provider = {"oidc_issuer": "https://idp.example", "oidc_audience": "x", name: url}
    with pytest.raises(ValueError, match=f"REACQUIRE_{name.upper()} must be an https"):
        ServiceSettings(**config.model_dump(), access="oidc", **provider)


@pytest.mark.parametrize(
    "url", ["https://idp.example/a", "http://127.0.0.1:8080/a", "http://[::1]/a", "http://localhost/a"]
)
def test_keys_by_https_or_from_this_machine_are_taken(config, url):
    given = {"access": "oidc", "oidc_issuer": url, "oidc_jwks_url": url, "oidc_audience": "x"}
    assert ServiceSettings(**config.model_dump(), **given).oidc_jwks_url == url


def test_with_a_login_other_machines_are_served(config, tmp_path):
    given = {"access": "keys", "keys_file": tmp_path / "keys.json", "host": "0.0.0.0"}
    assert ServiceSettings(**config.model_dump(), **given).host == "0.0.0.0"
