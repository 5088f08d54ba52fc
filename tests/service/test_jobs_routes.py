"""/jobs/{id}: status, result, artifacts, events, cancel, delete, expiry."""

import hashlib
import json

import pytest
from fakes import orders

from reacquire.jobs import OperationSpec, new_job_id
from reacquire.jobs.record import Failure


@pytest.fixture
def enter(app, store, blobs):
    """A job of the fake's making, run at once unless ``run=False``."""

    def make(operation="segment", run=True, **what) -> str:
        job_id = new_job_id()
        store.create(job_id, OperationSpec(operation=operation), blobs.put_inputs(job_id, [orders(**what)]))
        if run:
            app.state.context.publisher.publish([job_id])
        return job_id

    return make


def events(client, job_id, **headers) -> list[dict]:
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        text = "".join(stream.iter_text())
    blocks = [dict(line.split(": ", 1) for line in b.splitlines() if ": " in line) for b in text.split("\n\n") if b]
    return [block for block in blocks if "event" in block]


def done(client, job_id) -> dict:
    return json.loads(events(client, job_id)[-1]["data"])


def test_the_status_tells_progress_batch_and_artifacts(client, enter):
    job = done(client, enter(steps=3))
    assert (job["status"], job["progress"]) == ("succeeded", {"step": 3, "steps": 3, "fraction": 1.0})
    assert job["batch"]["size"] == 1
    assert job["wait_seconds"] >= 0
    assert [a["media_type"] for a in job["artifacts"]] == ["application/dicom", "image/png", "application/json"]


def test_an_artifact_has_its_digest(client, enter):
    job = done(client, enter())
    for artifact in job["artifacts"]:
        answer = client.get(artifact["href"])
        assert hashlib.sha256(answer.content).hexdigest() == artifact["sha256"]
        assert answer.headers["etag"] == f'"{artifact["sha256"]}"'
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get(f"/v1/jobs/{job['id']}/artifacts/../secret").status_code == 404


def test_an_unchanged_result_is_not_sent_again(client, enter):
    job = done(client, enter())
    etag = client.get(job["links"]["result"]).headers["etag"]
    answer = client.get(job["links"]["result"], headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


def test_events_show_each_step_and_end_with_the_job(client, enter):
    seen = events(client, enter(steps=20, step_s=0.15))
    assert [e["event"] for e in seen][-1] == "succeeded"
    steps = [json.loads(e["data"])["progress"]["step"] for e in seen if e["event"] == "running"]
    assert steps == sorted(steps)
    assert len(steps) >= 3
    versions = [int(e["id"]) for e in seen]
    assert versions == sorted(set(versions))


def test_events_resume_after_the_last_one_seen(client, enter):
    job_id = enter()
    last = events(client, job_id)[-1]
    again = events(client, job_id, **{"Last-Event-ID": last["id"]})
    assert [e["event"] for e in again] == ["succeeded"]


def test_a_queued_job_is_cancelled_at_once(client, store, blobs, enter, tmp_path):
    job_id = enter(run=False)
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []
    assert client.get(f"/v1/jobs/{job_id}/result").json()["code"] == "job-cancelled"
    assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 202


def test_a_running_job_is_cancelled_between_two_steps(client, store, enter):
    job_id = enter(steps=1000, step_s=0.01)
    while store.get(job_id).state != "running":
        pass
    answer = client.post(f"/v1/jobs/{job_id}/cancel").json()
    assert answer["status"] == "cancelled" or answer["cancelling"]
    assert done(client, job_id)["status"] == "cancelled"


def test_a_finished_job_cannot_be_cancelled(client, enter):
    job_id = enter()
    done(client, job_id)
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "job-finished")


def test_a_failed_job_answers_its_problem(client, enter):
    job = done(client, enter(fail="lossy-source"))
    assert (job["status"], job["error"]["code"], job["error"]["status"]) == ("failed", "lossy-source", 422)
    answer = client.get(job["links"]["result"])
    assert (answer.status_code, answer.json()["code"]) == (422, "lossy-source")
    assert answer.json()["instance"] == job["links"]["self"]


def test_deleting_purges_record_and_files(client, store, enter, tmp_path):
    job_id = enter()
    done(client, job_id)
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert client.get(f"/v1/jobs/{job_id}").status_code == 404
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []


def test_an_expired_result_is_gone(client, store, enter):
    job_id = enter()
    done(client, job_id)
    store.client.zadd(store.key("finished"), {job_id: 1})
    store.expire()
    assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "expired"
    answer = client.get(f"/v1/jobs/{job_id}/result")
    assert (answer.status_code, answer.json()["code"]) == (410, "job-expired")


def test_a_result_past_its_time_is_gone_even_before_it_was_swept(client, store, enter):
    job_id = enter()
    done(client, job_id)
    store.client.hset(store.key(f"job:{job_id}"), "expires_ms", 1)
    assert client.get(f"/v1/jobs/{job_id}/result").status_code == 410


def test_a_stream_of_a_deleted_job_ends(client, store, enter):
    job_id = enter(run=False)
    seen = []
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                seen.append(line.removeprefix("event: "))
                store.delete(job_id)  # once the stream has begun; to delete what is gone does nothing
    assert seen == ["queued", "deleted"]


def test_an_unknown_failure_code_of_the_store_is_internal(client, store, enter):
    job_id = enter(run=False)
    (claim,) = store.claim([job_id], "w")
    store.fail(claim, Failure("internal-error", "d"))
    assert client.get(f"/v1/jobs/{job_id}/result").status_code == 500
