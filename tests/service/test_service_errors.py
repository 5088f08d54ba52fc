"""Every code has a status, and every error leaves as a problem that tells nothing of the data."""

import pytest
import redis
from builders import SECRET
from fakes import every_error

from reacquire.errors import every_code
from reacquire.jobs.record import Failure
from service.errors import HTTP_CODES, STATUS, problem_document

ONLY_HTTP = {"malformed-request", "not-found", "method-not-allowed", "request-timeout", "unsupported-media-type"}


def test_the_table_holds_every_code_and_no_other():
    assert set(STATUS) == every_code() | ONLY_HTTP
    assert set(HTTP_CODES.values()) <= set(STATUS)
    assert all(400 <= status < 600 for status in STATUS.values())


def test_any_error_of_the_library_is_answered_with_its_status(app, client):
    errors = every_error()

    @app.get("/raise-it/{index}")
    def raise_it(index: int) -> None:
        raise errors[index]

    for index, error in enumerate(errors):
        answer = client.get(f"/raise-it/{index}")
        problem = answer.json()
        assert answer.status_code == problem["status"] == STATUS[error.code]
        assert answer.headers["content-type"] == "application/problem+json"
        assert (problem["code"], problem["type"]) == (error.code, f"/problems/{error.code}")
        assert ("retry-after" in answer.headers) == (answer.status_code in (429, 503))


def test_an_unexpected_error_tells_nothing(app, client, capfd, caplog):
    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError(SECRET)

    answer = client.get("/crash")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert answer.headers["x-request-id"] == answer.json()["trace_id"]
    assert SECRET not in answer.text + "".join(capfd.readouterr()) + caplog.text


def test_an_unreachable_store_is_not_a_fault_of_ours(app, client, monkeypatch):
    def down(*_):
        raise redis.ConnectionError(SECRET)

    monkeypatch.setattr(app.state.context.store, "get", down)
    answer = client.get(f"/v1/jobs/{'0' * 32}")
    assert (answer.status_code, answer.json()["code"]) == (503, "not-ready")
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/v1/segment", 405, "method-not-allowed"),
        ("GET", f"/v1/jobs/{'0' * 32}", 404, "job-not-found"),
        ("GET", "/v1/jobs/SECRET", 404, "job-not-found"),
        ("DELETE", "/v1/jobs/x", 404, "job-not-found"),
        ("POST", "/v1/jobs/x/cancel", 404, "job-not-found"),
        ("GET", "/v1/jobs/x/result", 404, "job-not-found"),
        ("GET", "/v1/jobs/x/events", 404, "job-not-found"),
        ("GET", "/v1/models/none", 404, "model-not-found"),
        ("GET", "/problems/none", 404, "not-found"),
    ],
)
def test_what_is_not_there(client, method, path, status, code):
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_405_names_the_methods(client):
    assert client.get("/v1/segment").headers["allow"] == "POST"


def test_a_where_becomes_a_keyword_or_a_pointer():
    assert "keyword" in problem_document(Failure("missing-attribute", "d", "Rows"))["errors"][0]
    assert "pointer" in problem_document(Failure("invalid-request", "d", "/dicom"))["errors"][0]


def test_every_problem_type_can_be_looked_up(client):
    assert {code: client.get(f"/problems/{code}").json()["status"] for code in STATUS} == STATUS
