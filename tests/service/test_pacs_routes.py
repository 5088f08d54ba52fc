"""Work on series of a PACS over the API: JSON bodies, hooks, their token, and what a job tells of its delivery."""

import json
import threading

import pytest
from deriving import DerivingPipeline
from fake_pacs import SERIES, STUDY, FakePacs, mr_series, running

from gateway.courier import Courier, connector
from gateway.metrics import CourierMetrics
from gateway.settings import GatewaySettings
from reacquire.jobs.leases import Leases
from reacquire.jobs.presence import Presence, WorkerInfo
from service.app import create_app
from service.settings import ServiceSettings

FILES = mr_series(3)
UIDS = list(FILES)
SOURCE = {"study": STUDY, "series": SERIES, "site": "pacs"}
COUNTERFACTUAL = {"dicomweb": SOURCE, "target": {"MagneticFieldStrength": 3.0}}
OPERATIONS = ("/v1/counterfactual", "/counterfactual", "/v1/segment", "/segment", "/v1/predict-iap", "/predict-iap")


@pytest.fixture
def pacs():
    return FakePacs.holding(FILES.values())


@pytest.fixture
def server(pacs):
    with running(pacs) as server:
        yield server


@pytest.fixture
def pacs_file(server, tmp_path):
    rule = {"name": "breast", "when": {"Modality": "MR"}, "do": [{"operation": "segment"}]}
    sites = {name: {"base_url": server.url, "attempts": 1} for name in ("pacs", "archive")}
    path = tmp_path / "pacs.yaml"
    path.write_text(json.dumps({"sites": sites, "rules": [rule]}))  # YAML is a superset of JSON
    return path


@pytest.fixture
def settings(config, pacs_file, tmp_path) -> ServiceSettings:
    return ServiceSettings(**config.model_dump(), bundles_root=tmp_path / "bundles", pacs_config=pacs_file)


@pytest.fixture
def pipeline() -> DerivingPipeline:
    return DerivingPipeline()


@pytest.fixture
def courier(app, config, store):
    """A courier of the same PACS in a thread."""
    context = app.state.context
    from service.submit import intake

    leases, stopping = Leases(store), threading.Event()
    courier = Courier(
        "c",
        GatewaySettings(**config.model_dump(), poll_s=0.02),
        context.pacs,
        intake(context),
        leases,
        CourierMetrics(),
        connector(context.pacs, lambda _: None, context.limits, leases),
    )
    thread = threading.Thread(target=courier.run, args=(stopping,))
    thread.start()
    yield courier
    stopping.set()
    thread.join()


def test_a_series_of_the_pacs_is_worked_on_and_the_result_stored_there(client, courier, pacs):
    answer = client.post("/v1/counterfactual", json=COUNTERFACTUAL, headers={"Prefer": "wait=30"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    job = client.get(answer.headers["location"]).json()
    assert (job["status"], job["stage"], job["progress"]["fraction"]) == ("succeeded", "deliver", 1.0)
    assert job["delivery"] == {"site": "pacs", "sent": 3, "stored": 3, "failed": []}
    assert len(pacs.instances) == 6


def test_what_the_pacs_did_not_take_is_listed(client, courier, pacs, monkeypatch):
    from deriving import derived

    from gateway.deliver import identity

    pacs.refuses = {identity(derived(pacs.instances[UIDS[0]]))[2]: 0xA700}
    answer = client.post("/counterfactual", json=COUNTERFACTUAL, headers={"Prefer": "wait=30"})
    job = client.get(answer.headers["location"]).json()
    assert (answer.status_code, job["status"]) == (200, "partial")
    assert job["delivery"]["failed"] == [{"artifact": "counterfactual-0001.dcm", "reason": 0xA700}]
    assert client.get(job["artifacts"][0]["href"]).status_code == 200


def test_a_delivery_that_failed_leaves_the_files_within_reach(client, courier, pacs):
    body = COUNTERFACTUAL | {"dicomweb": SOURCE | {"instances": [UIDS[0]]}}
    pacs.on_request = lambda method, _: setattr(pacs, "password", "changed") if method == "POST" else None
    answer = client.post("/counterfactual", json=body, headers={"Prefer": "wait=30"})
    assert (answer.status_code, answer.json()["code"]) == (502, "pacs-refused")
    job = client.get(answer.json()["instance"]).json()
    assert (job["status"], job["stage"]) == ("failed", "deliver")
    assert client.get(job["artifacts"][0]["href"]).content[128:132] == b"DICM"


def test_without_return_nothing_is_stored(client, courier, pacs):
    body = COUNTERFACTUAL | {"return": False, "dicomweb": SOURCE | {"instances": [UIDS[1]]}}
    answer = client.post("/counterfactual", json=body, headers={"Prefer": "wait=30"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom")
    assert client.get(answer.headers["location"]).json()["delivery"] is None
    assert len(pacs.instances) == 3


def test_a_series_that_the_pacs_does_not_have(client, courier):
    body = COUNTERFACTUAL | {"dicomweb": SOURCE | {"series": "1.2.99"}}
    answer = client.post("/counterfactual", json=body, headers={"Prefer": "wait=30"})
    assert (answer.status_code, answer.json()["code"]) == (404, "source-not-found")
    assert "1.2.99" not in answer.text


@pytest.mark.parametrize("path", OPERATIONS)
def test_every_operation_takes_a_reference(client, store, path):
    body = COUNTERFACTUAL if "counterfactual" in path else {"dicomweb": SOURCE}
    answer = client.post(path, json=body)
    job = answer.json()
    assert (answer.status_code, job["status"], job["stage"]) == (202, "queued", "fetch")
    assert store.depth("fetch") == 1
    assert store.get(job["id"]).deliver_to == "pacs"


def test_no_uid_reaches_redis(client, store):
    client.post("/counterfactual", json=COUNTERFACTUAL, headers={"Idempotency-Key": f"{STUDY}-{SERIES}"})
    client.post("/v1/hooks/series", json=SOURCE)
    told = "".join(k + json.dumps(store.client.hgetall(k)) for k in store.client.keys("*job*"))
    told += "".join(store.client.keys("*"))
    assert "counterfactual" in told
    assert STUDY not in told
    assert SERIES not in told


@pytest.mark.parametrize(
    ("body", "status", "code", "where"),
    [
        ({}, 422, "invalid-request", "/dicomweb"),
        ({"dicomweb": SOURCE | {"study": "../../x"}}, 422, "invalid-uid", "/study"),
        ({"dicomweb": SOURCE | {"series": "1.2\n"}}, 422, "invalid-uid", "/series"),
        ({"dicomweb": SOURCE | {"instances": ["1.2", "x"]}}, 422, "invalid-uid", "/instances"),
        ({"dicomweb": SOURCE | {"instances": []}}, 422, "invalid-request", "/dicomweb/instances"),
        ({"dicomweb": SOURCE | {"url": "http://evil"}}, 422, "invalid-request", "/dicomweb/url"),
        ({"dicomweb": SOURCE | {"site": "evil"}}, 403, "pacs-not-allowed", "/site"),
        ({"dicomweb": SOURCE | {"site": None}}, 422, "invalid-request", "/site"),
        ({"dicomweb": SOURCE, "target": {"EchoTime": 2}}, 422, "invalid-request", "/target"),
        ({"dicomweb": SOURCE, "options": {"stepz": 1}}, 422, "invalid-request", "/options/stepz"),
    ],
)
def test_a_bad_reference_is_refused_before_a_job_exists(client, store, body, status, code, where):
    answer = client.post("/segment", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert where in {next(iter(e.values())) for e in answer.json()["errors"]}
    assert store.depth("fetch") == 0


def test_a_target_outside_the_vocabulary_is_refused(client):
    answer = client.post("/counterfactual", json=COUNTERFACTUAL | {"target": {"EchoTime": 99}})
    assert (answer.status_code, answer.json()["code"]) == (422, "target-out-of-domain")
    assert client.post("/counterfactual", json=COUNTERFACTUAL | {"target": {}}).status_code == 422


@pytest.mark.parametrize("content", [b"{", b"[]", b"null", b"\xff", b'{"dicomweb": ' * 2000])
def test_broken_json_is_refused(client, content):
    answer = client.post("/segment", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) in {(422, "invalid-request"), (400, "malformed-request")}


def test_a_large_json_is_refused(client):
    body = COUNTERFACTUAL | {"dicomweb": SOURCE | {"instances": ["1.2"] * 200_000}}
    answer = client.post("/counterfactual", json=body)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


def test_a_repeated_key_answers_the_first_job(client):
    first = client.post("/segment", json={"dicomweb": SOURCE}, headers={"Idempotency-Key": "k"}).json()["id"]
    assert client.post("/segment", json={"dicomweb": SOURCE}, headers={"Idempotency-Key": "k"}).json()["id"] == first
    other = client.post("/segment", json={"dicomweb": SOURCE, "return": False}, headers={"Idempotency-Key": "k"})
    assert other.json()["code"] == "idempotency-mismatch"


@pytest.mark.parametrize("hook", ["orthanc", "series"])
def test_a_hook_starts_what_the_rules_say_and_once(client, courier, pacs, hook):
    answer = client.post(f"/v1/hooks/{hook}", json=SOURCE)
    assert (answer.status_code, answer.json()["operation"]) == (202, "route")
    again = client.post(f"/v1/hooks/{hook}", json=SOURCE)
    route = wait_for(client, answer.json()["id"])
    assert wait_for(client, again.json()["id"])["jobs"] == route["jobs"]
    assert (route["status"], len(route["jobs"])) == ("succeeded", 1)
    child = wait_for(client, route["jobs"][0])
    assert (child["operation"], child["status"], child["delivery"]["stored"]) == ("segment", "succeeded", 3)
    assert client.get(route["links"]["result"]).json()["jobs"] == route["jobs"]


def wait_for(client, job_id) -> dict:
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        "".join(stream.iter_text())
    return client.get(f"/v1/jobs/{job_id}").json()


def test_a_hook_costs_no_talk_with_the_pacs(client, pacs):
    assert client.post("/v1/hooks/series", json=SOURCE).status_code == 202
    assert pacs.requests == []


@pytest.mark.parametrize(
    "body", [{}, {"study": STUDY}, SOURCE | {"series": "x"}, SOURCE | {"more": 1}, SOURCE | {"study": 1}]
)
def test_a_bad_announcement_is_refused(client, body):
    assert client.post("/v1/hooks/series", json=body).status_code == 422


TOKEN = "0b2f6c1e9d7a4835"


class TestToken:
    @pytest.fixture
    def settings(self, config, pacs_file, tmp_path) -> ServiceSettings:
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        told = {"pacs_config": pacs_file, "hook_token_file": tmp_path / "token", "trail_dir": tmp_path / "trail"}
        return ServiceSettings(**config.model_dump() | told, bundles_root=tmp_path)

    @pytest.mark.parametrize(
        "header", [None, "", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", "Bearer é"]
    )
    def test_who_does_not_bear_it_is_turned_away_and_on_record(self, client, store, settings, header):
        headers = {} if header is None else {"Authorization": header.encode()}
        answer = client.post("/v1/hooks/orthanc", json=SOURCE, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert store.depth("fetch") == 0
        (path,) = settings.trail_dir.iterdir()
        last = json.loads(path.read_text().splitlines()[-1])
        assert (last["action"], last["who"], last["outcome"]) == ("refuse", "unknown", "unauthorized")

    def test_who_bears_it_may_pass(self, client):
        answer = client.post("/v1/hooks/orthanc", json=SOURCE, headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 202

    def test_a_token_file_that_is_gone_opens_no_door(self, client, settings):
        settings.hook_token_file.unlink()
        answer = client.post("/v1/hooks/orthanc", json=SOURCE, headers={"Authorization": "Bearer x"})
        assert answer.status_code == 401

    @pytest.mark.parametrize("text", ["", "changeme", "short"])
    def test_a_placeholder_in_the_file_opens_no_door(self, client, settings, text):
        settings.hook_token_file.write_text(text)
        answer = client.post("/v1/hooks/orthanc", json=SOURCE, headers={"Authorization": f"Bearer {text or 'x'}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


class TestBeyondLoopback:
    @pytest.fixture
    def settings(self, config, pacs_file, tmp_path) -> ServiceSettings:
        told = {"pacs_config": pacs_file, "host": "0.0.0.0", "allow_unauthenticated": True}
        return ServiceSettings(**config.model_dump(), bundles_root=tmp_path, **told)

    def test_without_a_token_nobody_may_announce_anything(self, client):
        answer = client.post("/v1/hooks/orthanc", json=SOURCE, headers={"Authorization": "Bearer x"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


class TestWithoutPacs:
    @pytest.fixture
    def settings(self, config, tmp_path) -> ServiceSettings:
        return ServiceSettings(**config.model_dump(), bundles_root=tmp_path)

    def test_a_reference_is_refused_by_name(self, client):
        answer = client.post("/segment", json={"dicomweb": SOURCE})
        assert (answer.status_code, answer.json()["code"]) == (403, "pacs-not-allowed")


def test_one_site_needs_no_name(client, app, settings):
    from dataclasses import replace

    from reacquire.pacs import PacsConfig

    pacs = app.state.context.pacs
    app.state.context = replace(app.state.context, pacs=PacsConfig(sites={"pacs": pacs.sites["pacs"]}))
    answer = client.post("/segment", json={"dicomweb": {"study": STUDY, "series": SERIES}})
    assert answer.status_code == 202


def test_readiness_tells_of_couriers_and_models_does_not(client, store):
    checks = {c["name"]: c for c in client.get("/readyz").json()["checks"]}
    assert (checks["courier"]["ok"], checks["courier"]["required"]) == (False, False)
    Presence(store).beat(WorkerInfo("c", "none", "none", "0", role="courier"))
    assert {c["name"]: c["ok"] for c in client.get("/readyz").json()["checks"]}["courier"]
    assert [w["bundle"] for w in client.get("/v1/models").json()["workers"]] == ["fake"]
    assert "reacquire_couriers 1.0" in client.get("/metrics").text
    assert client.get("/v1/capabilities").json()["sites"] == ["pacs", "archive"]


def test_a_configuration_that_cannot_be_used_is_refused_at_the_start(config, tmp_path):
    (tmp_path / "bad.yaml").write_text("sitez: {}")
    with pytest.raises(ValueError, match="sitez"):
        create_app(ServiceSettings(**config.model_dump(), pacs_config=tmp_path / "bad.yaml"))
