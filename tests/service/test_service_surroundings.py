"""Settings, probes, metrics, headers, catalogue and OpenAPI."""

import io
import re
import zipfile

import numpy as np
import pytest
import redis
from builders import make_mr
from pydantic import ValidationError
from tiny_bundle import pack_tiny

from reacquire.access.address import is_loopback
from reacquire.bundles.store import open_bundle
from reacquire.iap import load_vocabulary
from reacquire.jobs.presence import Presence
from service.settings import ServiceSettings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    import os

    for name in [n for n in os.environ if n.startswith("REACQUIRE_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_without_a_login_only_loopback_is_bound(monkeypatch, host):
    monkeypatch.setenv("REACQUIRE_HOST", host)
    with pytest.raises(ValidationError, match="REACQUIRE_ALLOW_UNAUTHENTICATED"):
        ServiceSettings()
    monkeypatch.setenv("REACQUIRE_ALLOW_UNAUTHENTICATED", "true")
    assert ServiceSettings().host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_leave(host):
    assert is_loopback(host)
    assert ServiceSettings(host=host).host == host


def test_settings_come_from_the_environment_and_mask_the_url(monkeypatch):
    monkeypatch.setenv("REACQUIRE_REDIS_URL", "redis://:hunter2@h/0")
    monkeypatch.setenv("REACQUIRE_MAX_QUEUE", "7")
    settings = ServiceSettings()
    assert settings.max_queue == 7
    assert settings.redis_url.get_secret_value() == "redis://:hunter2@h/0"
    assert "hunter2" not in repr(settings)
    with pytest.raises(ValidationError):
        ServiceSettings(no_such_setting=1)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HOOK_TOKEN", "changeme"), ("HOOK_TOKEN", "<token>"), ("HOOK_TOKEN", "short"),
     ("TRAIL_SECRET", "your-secret-here"), ("REDIS_URL", "redis://:change-me@redis/0"), ("REDIS_URL", "rediss://:PASSWORD@redis.example:6379/0")],
)  # fmt: skip
def test_a_placeholder_is_no_secret(monkeypatch, variable, value):
    monkeypatch.setenv(f"REACQUIRE_{variable}", value)
    with pytest.raises(ValidationError, match=r"placeholder|fewer than") as refused:
        ServiceSettings()
    assert value not in str(refused.value.errors(include_input=False, include_context=False))


def test_a_random_secret_is_taken(monkeypatch):
    monkeypatch.setenv("REACQUIRE_HOOK_TOKEN", "0b2f6c1e9d7a4835bd0f6a1c")
    monkeypatch.setenv("REACQUIRE_REDIS_URL", "redis://:s3cr3tariat-77@redis/0")
    assert ServiceSettings().hook_token.get_secret_value().startswith("0b2f")


@pytest.mark.parametrize("path", ["/livez", "/v1/capabilities", "/nothing"])
def test_every_answer_bears_the_headers_of_safety(served, path):
    headers = served.get(path).headers
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    wanted = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
              "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin"}  # fmt: skip
    assert {name: headers[name] for name in wanted} == wanted
    assert "server" not in headers


def test_the_documentation_page_may_load_its_own_scripts_only(client):
    policy = client.get("/docs").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self' 'unsafe-inline';") and "http" not in policy


def test_a_made_up_method_is_no_label(client):
    client.request("JANEDOE", "/livez")
    text = client.get("/metrics").text
    assert 'method="other"' in text and "JANEDOE" not in text


def test_live_needs_nothing(client):
    assert client.get("/livez").json()["status"] == "ok"


@pytest.mark.parametrize("path", ["/readyz", "/healthz"])
def test_ready_lists_named_checks(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert [(c["name"], c["ok"]) for c in answer.json()["checks"]] == [
        ("redis", True),
        ("blob-store", True),
        ("worker", True),
        ("queue", True),
    ]


def test_a_missing_worker_is_reported_but_results_stay_within_reach(client, store):
    Presence(store).leave("w")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    assert {c["name"]: c["ok"] for c in answer.json()["checks"]}["worker"] is False


def test_without_redis_it_is_alive_but_not_ready(client, app, monkeypatch):
    def down(*_, **__):
        raise redis.ConnectionError

    monkeypatch.setattr(app.state.context.store.client, "execute_command", down)
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert 'route="/readyz",status="503"} 1.0' in answer.text, "the alert of a pod that gets no requests looks at this"


def test_metrics_name_routes_not_paths(client, slice_):
    client.post("/segment", files={"dicom": slice_})
    client.get("/v1/jobs/SECRET")
    text = client.get("/metrics").text
    assert 'reacquire_http_requests_total{method="POST"' in text
    assert 'reacquire_jobs_submitted_total{operation="segment"} 1.0' in text
    assert 'reacquire_jobs_finished_total{model="none",operation="segment",state="succeeded"} 1.0' in text
    assert 'reacquire_requests_rejected_total{code="job-not-found"} 1.0' in text
    assert "reacquire_queue_depth 0.0" in text
    assert "SECRET" not in text


@pytest.mark.parametrize(
    ("given", "echoed"), [("abcd-1234", True), ("x" * 65, False), ("a b c d e", False), ("short", False)]
)
def test_a_sound_request_id_is_echoed(client, given, echoed):
    answer = client.get("/livez", headers={"X-Request-ID": given})
    assert (answer.headers["x-request-id"] == given) is echoed
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_capabilities_tell_the_vocabulary(client):
    answer = client.get("/v1/capabilities").json()
    vocabulary = load_vocabulary()
    assert [p["keyword"] for p in answer["vocabulary"]["parameters"]] == list(vocabulary.keywords)
    assert answer["vocabulary"]["sha256"] == vocabulary.sha256
    assert set(answer["operations"]) == {"counterfactual", "segment", "predict-iap"}
    assert "1.2.840.10008.1.2.1" in {s["uid"] for s in answer["transfer_syntaxes"]}
    assert answer["limits"]["body_bytes"] == answer["limits"]["series_bytes"] == 2**20


def test_a_zip_may_inflate_to_what_is_published_and_several_do_together(client, app):
    limits = app.state.context.limits
    noise = np.random.default_rng(0).integers(0, 16, (512, 640), dtype=np.uint16)  # packs to a third
    slices = [make_mr(noise, SOPInstanceUID=f"1.2.{i}") for i in (1, 2)]
    assert limits.series_bytes / 2 < len(slices[0]) < limits.series_bytes == 2**20
    packed = [zipped(data) for data in slices]
    together = client.post("/predict-iap", files=[("dicom", packed[0]), ("dicom", packed[1])])
    assert (together.status_code, together.json()["code"]) == (413, "decompression-limit")
    assert client.post("/predict-iap", files={"dicom": packed[0]}).status_code == 200


def zipped(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.dcm", data)
    return stream.getvalue()


def test_models_lists_installed_bundles_and_workers(client):
    answer = client.get("/v1/models").json()
    worker = {"bundle": "fake", "device": "cpu", "busy": 0, "warm": []}
    assert answer == {"live": True, "active": None, "models": [], "refused": [], "workers": [worker]}


def test_bundles_are_verified_once_and_again_when_one_changes(client, settings, monkeypatch):
    folder = pack_tiny(settings.bundles_root)
    hashed = []

    def counting(path):
        hashed.append(path)
        return open_bundle(path)

    monkeypatch.setattr("reacquire.bundles.store.open_bundle", counting)
    for _ in range(3):
        assert [m["name"] for m in client.get("/v1/models").json()["models"]] == ["tiny"]
        assert client.get("/v1/models/tiny").json()["version"] == "0.0.1"
    assert hashed == [folder]
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"name": "tiny"', '"name": "other"'))
    assert client.get("/v1/models/tiny").json()["code"] == "model-not-found"
    assert client.get("/v1/models/other").status_code == 200
    weights = next(folder.rglob("*.safetensors"))
    weights.write_bytes(b"altered")  # the manifest is untouched
    answer = client.get("/v1/models").json()
    assert answer["models"] == []
    assert [(r["folder"], weights.name in r["reason"]) for r in answer["refused"]] == [("tiny", True)]


def test_the_documentation_page_loads_nothing_from_other_hosts(client):
    page = client.get("/docs")
    assert page.status_code == 200
    assert "//" not in page.text.replace("<!--", "")
    assert '"validatorUrl": null' in page.text, "its badge would ask a public service"
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert client.get(address).status_code == 200
    assert client.get("/redoc").status_code == 404


def test_openapi_has_every_operation_once_with_problems_and_examples(client):
    document = client.get("/openapi.json").json()
    assert {
        "/v1/counterfactual",
        "/v1/segment",
        "/v1/predict-iap",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/result",
        "/v1/jobs/{job_id}/events",
        "/v1/jobs/{job_id}/cancel",
        "/v1/capabilities",
        "/v1/models",
        "/livez",
        "/readyz",
        "/metrics",
    } <= set(document["paths"])
    responses = document["paths"]["/v1/counterfactual"]["post"]["responses"]
    assert {"200", "202", "413", "415", "422", "503"} <= set(responses)
    assert "application/problem+json" in responses["422"]["content"]
    assert "application/dicom" in responses["200"]["content"]
