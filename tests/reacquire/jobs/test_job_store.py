"""Claims, leases, fencing, idempotency and limits, against a real Redis."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from reacquire.errors import JobError, OverloadedError
from reacquire.jobs import OperationSpec, new_job_id
from reacquire.jobs.record import Artifact, Claim, Failure, Model
from reacquire.jobs.store import EXHAUSTED, Idempotency, JobStore, Plan, Progress, Reaped

SPEC = OperationSpec(operation="segment")
ARTIFACT = Artifact("segmentation.dcm", 3, "00", "jobs/x/out/1/00000")


def queued(store: JobStore, **kwargs) -> str:
    return store.create(new_job_id(), SPEC, ["jobs/x/in/00000"], **kwargs)[0].id


def claimed(store: JobStore) -> Claim:
    return store.claim([queued(store)], "worker")[0]


def let_lease_run_out(store: JobStore, claim: Claim) -> None:
    store.client.zadd(store.key("running"), {claim.id: 1})


def test_one_of_many_workers_gets_the_job(store):
    job_id = queued(store)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: store.claim([job_id], f"worker-{n}"), range(16)))
    assert sum(len(c) for c in claims) == 1


def test_a_second_delivery_of_a_finished_job_claims_nothing(store):
    claim = claimed(store)
    store.succeed(claim, [ARTIFACT])
    assert store.claim([claim.id], "worker") == []


def test_a_record_survives_the_round_trip(store):
    claim = claimed(store)
    store.set_batch([claim], "b1")
    store.touch([Progress(claim, 3, 7)])
    store.succeed(claim, [ARTIFACT])
    record = store.get(claim.id)
    assert (record.spec, record.inputs, record.artifacts) == (SPEC, ("jobs/x/in/00000",), (ARTIFACT,))
    assert (record.step, record.steps, record.batch_id, record.batch_size) == (3, 7, "b1", 1)
    assert record.created_ms <= record.started_ms <= record.finished_ms < record.expires_ms


def test_a_worker_that_lost_its_lease_cannot_commit(store):
    stale = claimed(store)
    let_lease_run_out(store, stale)
    assert store.reap() == [Reaped(stale.id, "queued", "compute")]
    (fresh,) = store.claim([stale.id], "other")
    assert fresh.token > stale.token
    assert store.touch([Progress(stale)]) == ["lost"]
    assert store.succeed(stale, [ARTIFACT]) is None
    assert store.fail(stale, Failure("internal-error", "")) is None
    assert store.get(stale.id).state == "running"
    assert store.succeed(fresh, [ARTIFACT]) == "succeeded"


@pytest.mark.parametrize(
    ("commit", "state"),
    [
        (lambda store, claim: store.succeed(claim, [ARTIFACT]), "succeeded"),
        (lambda store, claim: store.fail(claim, Failure("internal-error", "")), "failed"),
        (lambda store, claim: store.acknowledge_cancel(claim), "cancelled"),
        (lambda store, claim: store.release(claim), "queued"),
        (lambda store, claim: store.advance(claim, "deliver"), "queued"),
    ],
)
def test_a_commit_repeated_after_a_lost_answer_changes_nothing_and_is_told_the_same(store, commit, state):
    claim = claimed(store)
    assert commit(store, claim) == state
    before = store.client.hgetall(store.key(f"job:{claim.id}"))
    assert commit(store, claim) == state
    assert store.client.hgetall(store.key(f"job:{claim.id}")) == before


def test_a_commit_is_repeated_only_for_its_own_claim(store):
    first = claimed(store)
    store.release(first)
    (second,) = store.claim([first.id], "other")
    assert store.release(first) == "queued", "what became of the first claim"
    assert store.get(first.id).state == "running"
    store.succeed(second, [ARTIFACT])
    assert store.succeed(first, [ARTIFACT]) == "queued"
    assert store.get(first.id).state == "succeeded"
    assert store.succeed(Claim(first.id, 7), [ARTIFACT]) is None, "a claim that nobody had"


def test_a_record_remembers_the_last_claims_only(store):
    job_id = queued(store)
    for _ in range(20):
        (claim,) = store.claim([job_id], "worker")
        store.release(claim)
    fields = [name for name in store.client.hgetall(store.key(f"job:{job_id}")) if name.startswith("settled:")]
    assert sorted(int(name.split(":")[1]) for name in fields) == list(range(13, 21))


def test_a_worker_that_has_nothing_in_hand_lets_go_of_what_it_holds(store):
    lost, kept = claimed(store), store.claim([queued(store)], "other")[0]
    assert store.abandon("worker") == 1
    assert store.reap() == [Reaped(lost.id, "queued", "compute")]
    assert store.touch([Progress(kept)]) == ["held"]
    assert store.abandon("worker") == 0


def test_a_claim_that_was_lost_on_the_way_is_no_attempt(store):
    job_id = queued(store)
    for _ in range(2 * store.config.max_attempts):
        store.claim([job_id], "worker")
        assert [store.abandon("worker"), store.abandon("worker")] == [1, 0]
        assert store.reap() == [Reaped(job_id, "queued", "compute")]
    assert store.get(job_id).attempts == 0


def test_a_renewed_lease_is_not_reaped(store):
    claim = claimed(store)
    let_lease_run_out(store, claim)
    store.touch([Progress(claim)])
    assert store.reap() == []


def test_a_job_that_kills_its_workers_fails_in_the_end(store):
    job_id = queued(store)
    for attempt in range(store.config.max_attempts):
        (claim,) = store.claim([job_id], f"worker-{attempt}")
        let_lease_run_out(store, claim)
        store.reap()
    record = store.get(job_id)
    assert (record.state, record.failure) == ("failed", EXHAUSTED)


def test_a_released_job_does_not_count_as_an_attempt(store):
    claim = claimed(store)
    assert store.release(claim) == "queued"
    assert store.get(claim.id).attempts == 0


def test_cancelling_a_running_job_wins_over_its_result(store):
    claim = claimed(store)
    assert store.cancel(claim.id) == "running"
    assert store.touch([Progress(claim)]) == ["cancel"]
    assert store.succeed(claim, [ARTIFACT]) == "cancelled"
    assert store.get(claim.id).artifacts == ()


def test_cancelled_while_its_worker_died_ends_as_cancelled(store):
    claim = claimed(store)
    store.cancel(claim.id)
    let_lease_run_out(store, claim)
    assert store.reap() == [Reaped(claim.id, "cancelled", "compute")]


def test_progress_raises_the_version_and_a_bare_renewal_does_not(store):
    claim = claimed(store)
    before = store.get(claim.id).version
    store.touch([Progress(claim)])
    assert store.get(claim.id).version == before
    store.touch([Progress(claim, 1, 2)])
    assert store.get(claim.id).version == before + 1


def test_the_queue_is_bounded(store):
    store.config = store.config.model_copy(update={"max_queue": 2})
    queued(store), queued(store)
    with pytest.raises(OverloadedError) as refusal:
        queued(store)
    assert refusal.value.code == "overloaded"
    assert store.depth() == 2


def test_the_same_key_and_request_is_the_same_job(store):
    idempotency = Idempotency("key", "fingerprint")
    first, created = store.create(new_job_id(), SPEC, [], idempotency=idempotency)
    again, created_again = store.create(new_job_id(), SPEC, [], idempotency=idempotency)
    assert (again, created, created_again) == (first, True, False)
    assert first == store.get(first.id)


def test_concurrent_requests_of_one_key_make_one_job(store):
    idempotency = Idempotency("key", "fingerprint")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: store.create(new_job_id(), SPEC, [], idempotency=idempotency), range(16)))
    assert len({record.id for record, _ in made}) == 1
    assert sum(created for _, created in made) == 1


def test_the_same_key_for_another_request_is_refused(store):
    queued(store, idempotency=Idempotency("key", "one"))
    with pytest.raises(JobError) as refusal:
        queued(store, idempotency=Idempotency("key", "two"))
    assert refusal.value.code == "idempotency-mismatch"


def test_a_key_is_free_again_once_its_job_is_deleted(store):
    first = queued(store, idempotency=Idempotency("key", "one"))
    assert store.delete(first)
    assert queued(store, idempotency=Idempotency("key", "two")) != first


def test_a_deleted_job_is_unknown_and_its_worker_loses_it(store):
    claim = claimed(store)
    assert store.delete(claim.id)
    assert not store.delete(claim.id)
    assert store.touch([Progress(claim)]) == ["lost"]
    assert store.succeed(claim, [ARTIFACT]) is None
    store.set_batch([claim], "late")
    with pytest.raises(JobError):
        store.get(claim.id)
    assert store.client.keys(store.key("job:*")) == []


def test_an_expired_job_keeps_the_fact_and_loses_the_rest(store):
    claim = claimed(store)
    store.succeed(claim, [ARTIFACT])
    store.client.zadd(store.key("finished"), {claim.id: 1})
    assert store.expire() == [claim.id]
    record = store.get(claim.id)
    assert (record.state, record.artifacts, record.inputs) == ("expired", (), ())
    assert store.client.ttl(store.key(f"job:{claim.id}")) > 0
    assert store.expire() == []


def test_stale_messages_are_named_once_per_period(store):
    job_id = queued(store)
    assert store.stale(60) == []
    time.sleep(0.02)
    assert store.stale(0.01) == [job_id]
    assert store.stale(60) == []


def test_totals_and_failures_are_counted_by_operation_and_model(store):
    model = Model("tiny-1.0.0", "f" * 64)
    first = claimed(store)
    store.set_batch([first], "b1", model)
    store.succeed(first, [])
    store.fail(claimed(store), Failure("corrupt-pixels", ""))
    store.cancel(queued(store))
    assert store.totals() == {
        ("segment", "succeeded", "tiny-1.0.0"): 1,
        ("segment", "failed", "none"): 1,
        ("segment", "cancelled", "none"): 1,
    }
    assert store.failures() == {("corrupt-pixels", "segment", "none"): 1}
    assert store.get(first.id).model_sha256 == model.sha256


def test_counts_of_an_older_version_are_carried_on(store):
    store.client.hset(store.key("totals"), "segment failed", 2)
    store.client.hset(store.key("failures"), "corrupt-pixels", 3)
    store.fail(claimed(store), Failure("corrupt-pixels", ""))
    assert store.totals() == {("segment", "failed", "none"): 3}
    assert store.failures() == {("corrupt-pixels", "unknown", "none"): 3, ("corrupt-pixels", "segment", "none"): 1}


def at_the_couriers(store: JobStore, stage="fetch", **kwargs) -> str:
    return store.create(new_job_id(), SPEC, ["jobs/x/in/00000"], plan=Plan(stage, "pacs"), **kwargs)[0].id


def test_a_stage_is_committed_with_what_it_made_and_counts_its_own_attempts(store):
    job_id = at_the_couriers(store)
    for _ in range(2):
        (claim,) = store.take("courier", 9)
        let_lease_run_out(store, claim)
        assert store.reap() == [Reaped(job_id, "queued", "fetch")]
    (claim,) = store.take("courier", 9)
    assert store.get(job_id).attempts == 3
    assert store.advance(claim, "compute", inputs=["a", "b"]) == "queued"
    record = store.get(job_id)
    assert (record.stage, record.inputs, record.attempts, record.deliver_to) == ("compute", ("a", "b"), 0, "pacs")
    assert (store.depth("fetch"), store.depth()) == (0, 1)
    assert store.take("courier", 9) == []
    (claim,) = store.claim([job_id], "worker")
    assert store.advance(claim, "deliver", artifacts=[ARTIFACT]) == "queued"
    assert store.claim([job_id], "worker") == []
    (claim,) = store.take("courier", 9)
    assert store.get(job_id).artifacts == (ARTIFACT,)
    assert claim.token == 5, "every claim fences off those before it"


def test_a_stale_claim_advances_nothing(store):
    at_the_couriers(store)
    (stale,) = store.take("dead", 1)
    let_lease_run_out(store, stale)
    store.reap()
    assert store.advance(stale, "compute", inputs=["a"]) is None
    assert store.get(stale.id).stage == "fetch"


def test_a_job_cancelled_during_a_stage_does_not_advance(store):
    at_the_couriers(store)
    (claim,) = store.take("courier", 1)
    store.cancel(claim.id)
    assert store.advance(claim, "compute", inputs=["a"]) == "cancelled"
    assert (store.depth("fetch"), store.depth()) == (0, 0)


def test_a_job_that_is_put_off_comes_back_by_itself(store):
    at_the_couriers(store)
    (claim,) = store.take("courier", 1)
    assert store.release(claim, delay_s=1.0) == "queued"
    assert store.take("courier", 1) == []
    record = store.get(claim.id)
    assert (record.postponed, record.attempts) == (1, 0)
    assert record.trouble_ms >= record.created_ms
    time.sleep(1.1)
    (again,) = store.take("courier", 1)
    assert again.token == 2


def test_who_waited_longest_for_a_courier_is_first(store):
    ids = []
    for _ in range(4):
        ids.append(at_the_couriers(store))
        time.sleep(0.002)
    assert [c.id for c in store.take("courier", 3)] == ids[:3]


def test_one_of_many_couriers_gets_the_job(store):
    ids = {at_the_couriers(store) for _ in range(10)}
    with ThreadPoolExecutor(8) as pool:
        taken = [c.id for claims in pool.map(lambda n: store.take(f"c{n}", 3), range(8)) for c in claims]
    assert sorted(taken) == sorted(ids)


def test_a_deleted_job_leaves_every_queue(store):
    job_id = at_the_couriers(store)
    store.delete(job_id)
    assert store.take("courier", 1) == []
    assert store.client.keys(store.key("*queued*")) == []


def test_a_record_without_a_stage_is_one_of_an_upload(store):
    job_id = queued(store)
    store.client.hdel(store.key(f"job:{job_id}"), "stage", "deliver_to", "notify", "entered_ms")
    assert (store.get(job_id).stage, store.depth()) == ("compute", 1)
    (claim,) = store.claim([job_id], "worker")
    let_lease_run_out(store, claim)
    assert store.reap() == [Reaped(job_id, "queued", "compute")]


@pytest.mark.parametrize("text", ["", "x", "../../etc", "A" * 32, "0" * 31, "*"])
def test_what_is_no_id_never_reaches_a_key(store, text):
    with pytest.raises(JobError) as refusal:
        store.get(text)
    assert refusal.value.code == "job-not-found"
    assert store.claim([text], "worker") == []
    assert not store.delete(text)
    with pytest.raises(JobError):
        store.cancel(text)


def test_a_failure_of_a_newer_version_is_still_an_error():
    assert Failure.from_json('{"code": "from-the-future", "detail": "d", "where": null}').code == "internal-error"
