"""PACS jobs from a reference to a delivery: a courier in this process, a fake PACS, a pipeline without networks."""

import json
import threading

import obstore.exceptions
import pytest
import redis
from builders import make_mr
from deriving import DerivingPipeline, derived
from fake_pacs import SERIES, STUDY, FakePacs, mr_series, running

from gateway.courier import Courier, connector
from gateway.deliver import groups
from gateway.metrics import CourierMetrics
from gateway.settings import GatewaySettings
from reacquire.errors import JobError
from reacquire.jobs import OperationSpec, Options
from reacquire.jobs.leases import Leases
from reacquire.jobs.presence import Presence
from reacquire.jobs.reconciler import Reconciler
from reacquire.jobs.record import Artifact, Refusal
from reacquire.pacs import PacsConfig
from reacquire.pacs.reference import SeriesReference
from worker.batching import BatchPolicy
from worker.metrics import WorkerMetrics
from worker.runner import Runner

REFERENCE = SeriesReference("pacs", STUDY, SERIES)
SOURCES = mr_series(3)
UIDS, FILES = list(SOURCES), list(SOURCES.values())
SPEC = OperationSpec(operation="counterfactual", target={"MagneticFieldStrength": 3.0})
RULES = [{"name": "breast", "when": {"Modality": "MR"}, "do": [{"operation": "segment"}, {"operation": "predict-iap"}]}]


@pytest.fixture
def pacs() -> FakePacs:
    return FakePacs.holding(FILES)


@pytest.fixture
def server(pacs):
    with running(pacs) as server:
        yield server


@pytest.fixture
def make(config, intake, server):
    """A courier; ``settings`` and ``pacs`` change its configuration."""

    def build(rules=(), **settings) -> Courier:
        site = {"base_url": server.url, "attempts": 1, "timeouts": {"connect_s": 2, "read_s": 5, "total_s": 20}}
        pacs_config = PacsConfig.model_validate({"sites": {"pacs": site, "archive": site}, "rules": list(rules)})
        leases = Leases(intake.store)
        return Courier(
            "c",
            GatewaySettings(**config.model_dump(), **settings),
            pacs_config,
            intake,
            leases,
            CourierMetrics(),
            connector(pacs_config, lambda _: None, intake.limits, leases),
            sleep=lambda _: None,
        )

    return build


@pytest.fixture
def compute(store, blobs):
    """Runs the stage ``compute`` of a job, as a worker would."""
    policy = BatchPolicy(8, 10**9)

    def run(job_id: str) -> None:
        Runner("w", DerivingPipeline(), store, blobs, Leases(store), policy, WorkerMetrics(), list).handle([job_id])

    return run


def step(courier: Courier) -> int:
    """Run what is due."""
    claims = courier._take(16)
    for claim in claims:
        courier.handle(claim)
    return len(claims)


def make_due(store) -> None:
    for job_id in store.client.zrange(store.key("queued:courier"), 0, -1):
        store.client.zadd(store.key("queued:courier"), {job_id: 0})


def enter(intake, **how) -> str:
    return intake.reference(SPEC, REFERENCE, **({"deliver_to": "pacs"} | how)).job_id


def run_through(courier, compute, job_id) -> None:
    step(courier)
    compute(job_id)
    step(courier)


def delivered(pacs) -> set[str]:
    return set(pacs.instances) - set(UIDS)


def test_a_series_comes_from_the_pacs_and_the_result_goes_back(make, intake, store, blobs, pacs, compute):
    courier, job_id = make(), enter(intake)
    assert (store.get(job_id).stage, store.depth("fetch"), store.depth()) == ("fetch", 1, 0)
    step(courier)
    record = store.get(job_id)
    assert (record.state, record.stage, len(record.inputs), record.attempts) == ("queued", "compute", 3, 0)
    compute(job_id)
    record = store.get(job_id)
    assert (record.state, record.stage, len(record.artifacts)) == ("queued", "deliver", 4)
    step(courier)
    record = store.get(job_id)
    assert (record.state, record.delivery.sent, record.delivery.stored, record.delivery.failed) == (
        "succeeded",
        3,
        3,
        (),
    )
    assert delivered(pacs) == {str(uid) for uid in pacs.stored}
    assert len(pacs.stored) == 3
    told = {a.name: a for a in record.artifacts}
    assert json.loads(blobs.get(told["delivery.json"].key)) == {"site": "pacs", "sent": 3, "stored": 3, "failed": []}
    assert store.totals() == {("counterfactual", "succeeded", "none"): 1}
    with pytest.raises(JobError):
        blobs.get(record.inputs[0])


def test_the_slices_reach_the_models_in_the_order_of_the_series(make, intake, store, blobs, pacs):
    pacs.instances = dict(reversed(pacs.instances.items()))
    pacs.places = dict(reversed(pacs.places.items()))
    job_id = enter(intake)
    step(make())
    assert [blobs.get(key) for key in store.get(job_id).inputs] == FILES


def test_without_delivery_the_job_ends_with_the_models(make, intake, store, pacs, compute):
    job_id = enter(intake, deliver_to=None)
    run_through(make(), compute, job_id)
    assert (store.get(job_id).state, store.get(job_id).delivery) == ("succeeded", None)
    assert pacs.stored == []


def test_a_pacs_gets_only_images_with_the_watermark(make, intake, store, blobs, compute):
    job_id = enter(intake)
    run_through(make(), compute, job_id)
    told = {a.name: a for a in store.get(job_id).artifacts}
    assert json.loads(blobs.get(told["result.json"].key))["watermark"] is True
    own = intake.files(SPEC, FILES).job_id
    assert store.get(own).spec.options.watermark is False
    report = intake.reference(OperationSpec(operation="predict-iap"), REFERENCE, deliver_to="pacs").job_id
    assert store.get(report).spec.options.report is True


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        (SeriesReference("pacs", STUDY, "1.2.99"), "source-not-found"),
        (SeriesReference("pacs", STUDY, SERIES, (UIDS[0], "1.2.99")), "source-not-found"),
        (SeriesReference("elsewhere", STUDY, SERIES), "pacs-not-allowed"),
    ],
)
def test_what_cannot_be_fetched_fails_by_name(make, intake, store, reference, code):
    job_id = intake.reference(SPEC, reference).job_id
    step(make())
    assert (store.get(job_id).state, store.get(job_id).failure.code) == ("failed", code)
    assert "1.2" not in store.get(job_id).failure.detail


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        (make_mr(SeriesInstanceUID="1.2.77", SOPInstanceUID="1.2.77.1"), "pacs-answer-invalid"),
        (make_mr(StudyInstanceUID="1.2.77", SOPInstanceUID="1.2.77.1"), "pacs-answer-invalid"),
        (make_mr(SOPInstanceUID=UIDS[0], EchoTime="9"), "duplicate-instance"),
        (make_mr(SOPInstanceUID="1.2.77.1", Modality="US"), "unsupported-modality"),
        (b"hello", "not-dicom"),
    ],
)
def test_what_the_pacs_sends_is_checked_as_an_upload_is(make, intake, store, pacs, tmp_path, extra, code):
    pacs.extra = [extra]
    job_id = enter(intake)
    step(make())
    assert (store.get(job_id).state, store.get(job_id).failure.code) == ("failed", code)
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []


def test_a_synthetic_series_is_not_edited_again_unless_told(make, intake, store, pacs):
    for data in FILES:
        pacs.add(derived(data))
    series = str(next(place[1] for uid, place in pacs.places.items() if uid not in UIDS))
    reference = SeriesReference("pacs", STUDY, series)
    refused = intake.reference(SPEC, reference).job_id
    told = SPEC.model_copy(update={"options": Options(allow_synthetic=True)})
    taken = intake.reference(told, reference).job_id
    step(make())
    assert store.get(refused).failure.code == "already-synthetic"
    assert store.get(taken).stage == "compute"


def test_a_pacs_that_is_down_costs_time_and_no_job(make, intake, store, pacs, server, compute):
    courier, job_id = make(), enter(intake)
    server.stop()
    for tries in (1, 2, 3):
        make_due(store)
        assert step(courier) == 1
        record = store.get(job_id)
        assert (record.state, record.stage, record.attempts, record.postponed) == ("queued", "fetch", 0, tries)
        assert step(courier) == 0, "it is not due yet"
    again = pacs.start(server.port)
    try:
        make_due(store)
        step(courier)
        compute(job_id)
        assert (store.get(job_id).stage, store.get(job_id).postponed) == ("deliver", 0)
        pacs.answers = [(503, {})]
        step(courier)
        assert store.get(job_id).state == "queued"
        make_due(store)
        step(courier)
        assert store.get(job_id).state == "succeeded"
    finally:
        again.stop()


def test_delays_grow(make, intake, store, pacs):
    courier, job_id = make(), enter(intake)
    delays = []
    for _ in range(6):
        pacs.answers = [(503, {})]
        make_due(store)
        step(courier)
        seconds, micros = store.client.time()
        delays.append(store.client.zscore(store.key("queued:courier"), job_id) / 1000 - seconds - micros / 1e6)
    assert delays == sorted(delays)
    assert 0.5 < delays[0] < 1.1
    assert delays[-1] > 16


def test_patience_ends(make, intake, store, pacs):
    courier, job_id = make(pacs_patience_s=0.05), enter(intake)
    pacs.answers = [(503, {})] * 2
    step(courier)
    assert store.get(job_id).state == "queued"
    threading.Event().wait(0.06)
    make_due(store)
    step(courier)
    assert (store.get(job_id).state, store.get(job_id).failure.code) == ("failed", "pacs-unreachable")


def test_what_the_pacs_does_not_take_is_named(make, intake, store, blobs, pacs, compute, tmp_path):
    job_id = enter(intake)
    step(courier := make())
    compute(job_id)
    second = store.get(job_id).artifacts[1]
    pacs.refuses = {uid_of(blobs.get(second.key)): 0xA700}
    step(courier)
    record = store.get(job_id)
    assert (record.state, record.delivery.stored) == ("partial", 2)
    assert record.delivery.failed == (Refusal(second.name, 0xA700),)
    assert all(blobs.get(a.key) for a in record.artifacts)
    store.client.zadd(store.key("finished"), {job_id: 1})
    assert store.expire() == [job_id]
    assert store.get(job_id).state == "expired"


def uid_of(data: bytes) -> str:
    from gateway.deliver import identity

    return identity(data)[2]


def test_a_result_that_no_pacs_takes_stays_within_reach(make, intake, store, blobs, pacs, compute):
    job_id = enter(intake)
    step(courier := make())
    compute(job_id)
    pacs.refuses = {uid_of(blobs.get(a.key)): 0xA700 for a in store.get(job_id).artifacts if a.name.endswith("dcm")}
    step(courier)
    record = store.get(job_id)
    assert (record.state, record.failure.code, record.delivery.stored) == ("failed", "store-failed", 0)
    assert "A700" in record.failure.detail
    assert all(blobs.get(a.key) for a in record.artifacts)


def test_a_pacs_that_says_stored_and_lists_nothing_is_not_believed(make, intake, store, blobs, pacs, compute):
    job_id = enter(intake)
    step(courier := make())
    compute(job_id)
    pacs.loses = {uid_of(blobs.get(store.get(job_id).artifacts[0].key))}
    step(courier)
    assert [f.artifact for f in store.get(job_id).delivery.failed] == ["counterfactual-0001.dcm"]


def test_a_pacs_that_lists_late_is_asked_again(make, intake, store, pacs, compute):
    job_id = enter(intake)
    step(courier := make())
    compute(job_id)
    pacs.hidden_looks = 3
    step(courier)
    assert store.get(job_id).state == "succeeded"


def test_delivering_twice_changes_nothing(make, intake, store, pacs, compute):
    job_id = enter(intake)
    step(courier := make())
    compute(job_id)
    (claim,) = store.take("dead", 1)  # and it stores everything before it dies
    courier.leases.add(claim)
    pacs.on_request = lambda method, path: None
    courier._deliver(store.get(job_id), grip_of(courier, claim))
    held, ended = dict(pacs.instances), store.get(job_id)
    assert ended.state == "succeeded"
    assert store.succeed(claim, []) == "succeeded", "a repeated commit is told what became of the first"
    assert store.get(job_id) == ended
    again = enter(intake)
    run_through(courier, compute, again)
    assert pacs.instances == held
    assert store.get(again).state == "succeeded"


def grip_of(courier, claim):
    from gateway.stages import Grip

    return Grip(claim, courier.leases)


def test_a_job_cancelled_during_delivery_stops_there(make, intake, store, blobs, pacs, compute, tmp_path):
    job_id = enter(intake)
    step(courier := make())
    compute(job_id)
    pacs.on_request = lambda method, _: store.cancel(job_id) if method == "POST" else None
    step(courier)
    assert store.get(job_id).state == "cancelled"
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []


def test_a_courier_that_lost_its_claim_leaves_nothing_behind(make, intake, store, blobs, pacs, tmp_path):
    job_id, courier = enter(intake), make()
    taken_over = []

    def take_over(*_):
        store.client.zadd(store.key("running"), {job_id: 1})
        assert [(r.id, r.must_be_sent) for r in store.reap()] == [(job_id, False)]
        taken_over.extend(store.take("other", 1))

    pacs.on_request = take_over
    step(courier)
    assert store.get(job_id).state == "running"
    assert [p.name for p in (tmp_path / "blobs" / "jobs" / job_id / "in").rglob("*") if p.is_file()] == ["00000"]
    assert store.advance(taken_over[0], "compute", inputs=["x"]) == "queued"


def test_a_stopping_courier_gives_its_jobs_back(make, intake, store, pacs):
    job_id, courier = enter(intake), make()
    pacs.on_request = lambda *_: courier.leases.draining.set()
    step(courier)
    record = store.get(job_id)
    assert (record.state, record.attempts, record.postponed) == ("queued", 0, 0)


def test_a_stop_in_an_outage_of_redis_leaves_the_job_to_its_lease(make, intake, store, monkeypatch):
    job_id, courier = enter(intake), make()

    def unreachable(*_, **__):
        courier.leases.draining.set()  # until it stops, it would try again
        raise redis.ConnectionError("down")

    monkeypatch.setattr(store, "advance", unreachable)
    step(courier)
    assert (store.get(job_id).state, courier.leases.held) == ("running", ())


def test_an_outage_of_the_blob_store_costs_time_and_no_attempt(make, intake, store, blobs, monkeypatch):
    job_id, courier = enter(intake), make()

    def full(*_):
        raise obstore.exceptions.GenericError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(type(blobs), "put_fetched", full)
        step(courier)
    record = store.get(job_id)
    assert (record.state, record.attempts, record.postponed) == ("queued", 0, 1)
    make_due(store)
    step(courier)
    assert store.get(job_id).stage == "compute"


def answer_lost(store, monkeypatch, name):
    """Redis does what it is told, and its answer is lost."""
    told = getattr(store, name)

    def lost(*what, **how):
        told(*what, **how)
        raise redis.TimeoutError("no answer")

    monkeypatch.setattr(store, name, lost)


def test_a_job_whose_entry_was_not_confirmed_is_taken_back_whole(intake, store, monkeypatch):
    with monkeypatch.context() as patched:
        answer_lost(store, patched, "create")
        with pytest.raises(redis.TimeoutError):
            intake.files(SPEC, FILES, key="k", renew=True)
    assert store.depth() == 0
    again = intake.files(SPEC, FILES, key="k", renew=True)
    assert again.created
    assert all(intake.blobs.get(key) for key in store.get(again.job_id).inputs)


def test_a_job_that_cannot_even_be_taken_back_keeps_its_files(intake, store, monkeypatch):
    def unreachable(*_):
        raise redis.ConnectionError("down")

    with monkeypatch.context() as patched:
        answer_lost(store, patched, "create")
        patched.setattr(store, "delete", unreachable)
        with pytest.raises(redis.TimeoutError):
            intake.files(SPEC, FILES, key="k")
    entered = intake.files(SPEC, FILES, key="k")
    assert not entered.created
    assert all(intake.blobs.get(key) for key in store.get(entered.job_id).inputs)


def test_an_outage_of_redis_leaves_no_files_behind(intake, store, monkeypatch):
    def unreachable(*_, **__):
        raise redis.ConnectionError("down")

    monkeypatch.setattr(store.client, "pipeline", unreachable)
    monkeypatch.setattr(type(intake.blobs), "put_inputs", lambda *_: pytest.fail("written in vain"))
    with pytest.raises(redis.ConnectionError):
        intake.files(SPEC, FILES)


def test_a_courier_that_dies_costs_an_attempt_and_its_job_needs_no_message(intake, store, blobs):
    job_id = enter(intake)
    sent = []

    class Listening:
        def publish(self, ids, *, priority=6):
            sent.extend(ids)

        def waiting(self):
            return 0

    reconciler = Reconciler(store, Presence(store), Listening(), blobs)
    for attempt in range(1, store.config.max_attempts + 1):
        assert store.take("dead", 1)
        store.client.zadd(store.key("running"), {job_id: 1})
        while not reconciler.tick("c", 0.001):
            pass
        assert store.get(job_id).attempts == attempt
    assert (store.get(job_id).state, sent) == ("failed", [])


def test_workers_cannot_claim_what_is_the_couriers(intake, store):
    job_id = enter(intake)
    assert store.claim([job_id], "w") == []
    assert [claim.id for claim in store.take("c", 5)] == [job_id]


def test_a_full_queue_counts_every_stage(intake, store):
    store.config = store.config.model_copy(update={"max_queue": 1})
    enter(intake)
    with pytest.raises(Exception, match="full"):
        intake.files(SPEC, FILES)


def test_the_rules_start_jobs_once_for_a_series(make, intake, store, blobs, pacs, compute):
    courier = make(RULES)
    first = intake.route(REFERENCE, window_s=60)
    assert intake.route(REFERENCE, window_s=60).job_id == first.job_id
    step(courier)
    record = store.get(first.job_id)
    assert (record.state, record.operation, len(record.children)) == ("succeeded", "route", 2)
    assert [store.get(c).operation for c in record.children] == ["segment", "predict-iap"]
    assert {store.get(c).deliver_to for c in record.children} == {"pacs"}
    (result,) = record.artifacts
    assert json.loads(blobs.get(result.key))["jobs"] == list(record.children)


def test_a_series_that_grows_after_its_announcement_is_done_again_whole(make, intake, store, pacs):
    courier = make(RULES)
    first = intake.route(REFERENCE, window_s=600).job_id
    step(courier)
    pacs.add(mr_series(4)[list(mr_series(4))[-1]])
    again = intake.route(REFERENCE, window_s=600).job_id
    assert again != first
    step(courier)
    assert not set(store.get(again).children) & set(store.get(first).children)


def test_a_series_that_fires_again_after_the_window_starts_nothing_new(make, intake, store):
    courier = make(RULES)
    first = intake.route(REFERENCE, window_s=0.001).job_id
    threading.Event().wait(0.01)
    again = intake.route(REFERENCE, window_s=0.001).job_id
    assert again != first
    step(courier)
    assert store.get(again).children == store.get(first).children != ()


def test_our_own_series_starts_nothing(make, intake, store, pacs):
    for data in FILES:
        pacs.add(derived(data))
    series = str(next(place[1] for uid, place in pacs.places.items() if uid not in UIDS))
    job_id = intake.route(SeriesReference("pacs", STUDY, series), window_s=60).job_id
    step(make(RULES))
    assert (store.get(job_id).state, store.get(job_id).children) == ("succeeded", ())


def test_a_key_whose_job_failed_is_free_again_when_asked(make, intake, store):
    unknown = SeriesReference("pacs", STUDY, "1.2.99")
    first = intake.reference(SPEC, unknown, key="k", renew=True).job_id
    assert intake.reference(SPEC, unknown, key="k", renew=True).job_id == first
    step(make())
    assert intake.reference(SPEC, unknown, key="k").job_id == first
    assert intake.reference(SPEC, unknown, key="k", renew=True).job_id != first


def test_the_end_of_a_job_is_told_when_somebody_wants_to_know(make, intake, store, compute):
    quiet, told = enter(intake), enter(intake, notify=True)
    courier = make()
    step(courier)
    assert store.due_notifications(60) == []
    compute(quiet), compute(told)
    step(courier)
    assert store.due_notifications(60) == [told]
    assert store.due_notifications(60) == [], "somebody else has it"
    assert store.postpone_notification(told, 0.0) == 1
    assert store.due_notifications(60) == [told]
    store.notified(told)
    assert store.postpone_notification(told, 0.0) == 0


def test_many_jobs_run_at_once(make, intake, store, pacs):
    pacs.delay_s = 0.3
    ids = [intake.reference(SPEC, REFERENCE, key=str(n)).job_id for n in range(4)]
    courier, stopping = make(courier_parallel=4), threading.Event()
    thread = threading.Thread(target=courier.run, args=(stopping,))
    thread.start()
    busiest = 0
    while any(store.get(i).stage == "fetch" for i in ids):
        busiest = max(busiest, len(courier.leases.held))
    stopping.set()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert busiest >= 2


def test_requests_are_cut_by_bytes_and_files():
    artifacts = [Artifact(str(n), 2**24, "", "") for n in range(5)] + [Artifact("x", 1, "", "") for _ in range(120)]
    sizes = [len(group) for group in groups(artifacts)]
    assert sum(sizes) == 125
    assert sizes[:2] == [2, 2]
    assert max(sizes) == 50
