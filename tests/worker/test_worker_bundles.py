"""A worker's bundles: few in memory, each job with its own, warm before ready, and never another in its place."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakePipeline, orders
from hollow_bundle import hollow_bundle
from pacs_stack import until

from reacquire.bundles import BundleStore
from reacquire.errors import BundleError, ReacquireError
from reacquire.jobs import BundleRef, OperationSpec, new_job_id
from reacquire.jobs.activation import Activations
from reacquire.jobs.leases import Leases
from reacquire.jobs.store import Plan
from worker.__main__ import first_bundle
from worker.batching import BatchPolicy
from worker.metrics import WorkerMetrics
from worker.runner import Runner
from worker.settings import WorkerSettings
from worker.shelf import OnShelf, Shelf
from worker.warmer import Warmer

GONE = BundleRef("gone", "1.0.0", "f" * 64)


class Loads:
    """Stands for the loading of networks; remembers what was loaded, and fails for what is named ``broken``."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.pipelines: dict[str, FakePipeline] = {}

    def __call__(self, folder: Path) -> FakePipeline:
        self.seen.append(folder.name)
        if folder.name.startswith("broken"):
            raise RuntimeError("cuDNN error")
        if folder.name.startswith("large"):
            raise MemoryError
        self.pipelines[folder.name] = FakePipeline()
        return self.pipelines[folder.name]


@pytest.fixture
def refs(tmp_path) -> dict[str, BundleRef]:
    """The bundles of the store, by name."""
    for name in ("a", "b", "c", "broken", "large"):
        hollow_bundle(tmp_path / "bundles", f"{name}@1.0.0", folder=name)
    return {info.name: info.ref for info in BundleStore(tmp_path / "bundles").inventory().sound}


@pytest.fixture
def load() -> Loads:
    return Loads()


@pytest.fixture
def shelf(tmp_path, refs, load) -> Shelf:
    return Shelf(BundleStore(tmp_path / "bundles"), load, keep=2)


@pytest.fixture
def runner(store, blobs, shelf) -> Runner:
    policy = BatchPolicy(items=16, budget=10**9)
    runner = Runner("w", FakePipeline(), store, blobs, Leases(store), policy, WorkerMetrics(), list, progress_s=0.0)
    return replace(runner, shelf=shelf)


@pytest.fixture
def submit(store, blobs):
    def enter(bundle: BundleRef | None = None) -> str:
        job_id = new_job_id()
        inputs = blobs.put_inputs(job_id, [orders()])
        store.create(job_id, OperationSpec(operation="segment"), inputs, plan=Plan(bundle=bundle))
        return job_id

    return enter


def test_the_least_recently_used_bundle_leaves(shelf, refs, load):
    for name in ("a", "b", "a", "c", "a", "b"):
        shelf.pick(refs[name])
    assert load.seen == ["a", "b", "c", "b"]
    assert list(shelf.warm.values()) == ["a@1.0.0", "b@1.0.0"]


def test_a_protected_bundle_stays_while_another_can_go(shelf, refs, load):
    shelf.protected = {refs["a"].sha256}
    for name in ("a", "b", "c", "b", "a"):
        shelf.pick(refs[name])
    assert load.seen == ["a", "b", "c", "b"]


@pytest.mark.parametrize(
    ("name", "code", "why"),
    [
        ("broken", "bundle-invalid", "warm-up"),
        ("large", "overloaded", "memory"),  # not "unavailable": it would go from worker to worker for ever
        (None, "model-unavailable", "gone@1.0.0"),
    ],
)
def test_a_bundle_that_cannot_be_loaded_is_named(shelf, refs, name, code, why):
    with pytest.raises(ReacquireError, match=why) as caught:
        shelf.pick(refs[name] if name else GONE)
    assert caught.value.code == code
    assert "cuDNN" not in caught.value.detail
    assert shelf.warm == {}


def test_networks_that_leave_are_free_to_go(runner, shelf, refs, load, store, submit):
    runner = replace(runner, pipeline=OnShelf(shelf, refs["a"]))
    runner.handle([submit(refs["a"]), submit(None)])
    gone = weakref.ref(load.pipelines.pop("a"))
    assert gone() is not None
    runner.handle([submit(refs["b"]), submit(refs["c"])])
    gc.collect()
    assert gone() is None
    job_id = submit(None)
    runner.handle([job_id])
    assert (store.get(job_id).state, load.seen) == ("succeeded", ["a", "b", "c", "a"])


def test_a_bundle_that_was_removed_is_served_while_it_is_in_memory(shelf, refs):
    shelf.pick(refs["a"])
    (shelf.store.root / "a" / "manifest.json").unlink()
    assert shelf.pick(refs["a"])
    assert refs["a"].sha256 in shelf.offers
    shelf.pick(refs["b"])
    shelf.pick(refs["c"])
    with pytest.raises(BundleError):
        shelf.pick(refs["a"])


def test_batches_never_mix_bundles_and_each_job_runs_on_its_own(runner, refs, load, store, submit):
    names = ["a", "b", "c"] * 4
    ids = [submit(refs[name]) for name in names]
    runner.handle(ids)
    assert {store.get(i).state for i in ids} == {"succeeded"}
    assert {name: p.batches for name, p in load.pipelines.items()} == {"a": [4], "b": [4], "c": [4]}
    assert load.seen == ["a", "b", "c"]  # brought together, or two of three would have been loaded anew each time
    batches = {(store.get(i).batch_id, store.get(i).bundle.name) for i in ids}
    assert len(batches) == 3
    assert runner.pipeline.batches == []


def test_a_job_whose_bundle_nobody_has_fails_by_its_code(runner, store, submit):
    job_id, other = submit(GONE), submit(None)
    runner.handle([job_id, other])
    failure = store.get(job_id).failure
    assert failure.code == "model-unavailable"
    assert "gone@1.0.0" in failure.detail
    assert store.get(other).state == "succeeded"


def test_a_job_whose_bundle_another_worker_has_is_left_to_it(runner, store, submit, monkeypatch):
    monkeypatch.setattr("worker.runner.PASS_ON_S", 0.0)
    returned: list[str] = []
    runner = replace(runner, republish=returned.extend, elsewhere=lambda ref: ref == GONE)
    job_id = submit(GONE)
    runner.handle([job_id])
    record = store.get(job_id)
    assert (record.state, record.attempts, record.bundle) == ("queued", 0, GONE)
    until(lambda: returned)  # by the timer's thread
    assert returned == [job_id]


@pytest.fixture
def activations(store) -> Activations:
    return Activations(store)


def test_a_worker_is_ready_once_the_active_bundle_is_warm(shelf, refs, activations):
    warmer = Warmer(shelf, activations, configured=refs["a"])
    assert not warmer.ready
    warmer.step()
    assert warmer.ready
    assert activations.read().active == refs["a"]
    activations.commit(activations.propose(refs["b"], patience_s=9))  # cold: nobody has it yet
    warmer._state = activations.read()
    assert not warmer.ready
    warmer.step()
    assert warmer.ready
    assert warmer.report()["bundle"] == "b-1.0.0"


def test_a_candidate_is_warmed_beside_the_active_bundle(shelf, refs, activations):
    warmer = Warmer(shelf, activations, configured=refs["a"])
    warmer.step()
    activations.propose(refs["b"], patience_s=9)
    warmer.step()
    assert set(warmer.report()["warm"]) == {refs["a"].sha256, refs["b"].sha256}
    assert set(warmer.report()["offers"]) == {ref.sha256 for ref in refs.values()}
    assert warmer.active == refs["a"]


def test_a_failed_warm_up_is_reported_under_its_own_activation(shelf, refs, activations, load):
    warmer = Warmer(shelf, activations, configured=refs["a"])
    warmer.step()
    token = activations.propose(refs["broken"], patience_s=9)
    warmer.step()
    warmer.step()
    assert (warmer.report()["failed"], load.seen) == (token, ["a", "broken"])
    assert warmer.ready
    activations.withdraw(token)
    activations.propose(refs["broken"], patience_s=9)
    warmer.step()
    assert load.seen == ["a", "broken", "broken"]  # a new activation is a new chance


def test_an_operators_choice_outlives_a_worker_with_another_setting(shelf, refs, activations):
    activations.commit(activations.propose(refs["b"], patience_s=9))
    Warmer(shelf, activations, configured=refs["a"]).step()
    assert activations.read().active == refs["b"]
    assert list(shelf.warm.values()) == ["b@1.0.0"]


def test_redis_that_lost_everything_is_told_the_configured_bundle_again(shelf, refs, activations, store):
    warmer = Warmer(shelf, activations, configured=refs["a"])
    warmer.step()
    store.client.delete(store.key("bundles"))
    warmer.step()
    assert activations.read().active == refs["a"]


def test_an_active_bundle_that_is_not_here_leaves_the_worker_unready_and_at_work(shelf, refs, activations):
    activations.commit(activations.propose(GONE, patience_s=9))
    warmer = Warmer(shelf, activations, configured=refs["a"])
    warmer.step()
    assert not warmer.ready
    assert shelf.pick(refs["a"])


@pytest.fixture
def first(config, tmp_path, refs):
    """What a worker with the bundle in this folder would start with: (first, configured)."""

    def begin(folder: str):
        settings = WorkerSettings(**config.model_dump(), bundle=tmp_path / "bundles" / folder)
        return first_bundle(settings, BundleStore(settings.bundle.parent, also=(settings.bundle,)))

    return begin


def test_a_worker_starts_with_what_an_operator_chose_if_it_is_here(first, refs, activations):
    assert first("a") == (refs["a"], refs["a"])
    activations.establish(refs["b"])
    assert first("a") == (refs["a"], refs["a"])  # nobody chose b
    activations.commit(activations.propose(refs["b"], patience_s=9))
    assert first("a") == (refs["b"], refs["a"])
    assert first("nothing") == (refs["b"], None)
    activations.commit(activations.propose(GONE, patience_s=9))
    assert first("a") == (refs["a"], refs["a"])


def test_a_worker_without_a_sound_bundle_says_what_there_is(first, tmp_path):
    with pytest.raises(BundleError, match=r"nothing.*manifest\.json is missing.*; sound bundles in .*: a@1\.0\.0, b@1"):
        first("nothing")
    for manifest in (tmp_path / "bundles").glob("*/manifest.json"):
        manifest.write_text("{}")
    with pytest.raises(BundleError, match=r"sound bundles in .*: none"):
        first("a")


def test_a_worker_starts_while_redis_is_away(tmp_path, refs):
    settings = WorkerSettings(redis_url="redis://127.0.0.1:1/0", bundle=tmp_path / "bundles" / "a")
    assert first_bundle(settings, BundleStore(settings.bundle.parent)) == (refs["a"], refs["a"])


def test_gauges_show_what_is_in_memory_and_nothing_else():
    metrics = WorkerMetrics()
    for labels in (["a-1", "b-1"], ["b-1"]):
        metrics.show_bundles(metrics.model_loaded, labels)
    (family,) = metrics.model_loaded.collect()
    assert [(s.labels["model"], s.value) for s in family.samples] == [("b-1", 1.0)]
