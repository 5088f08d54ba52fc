"""The batching policy: nothing lost, nothing mixed, no batch over budget."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from worker.batching import Batcher, BatchPolicy, default_budget


@dataclass(frozen=True)
class Thing:
    number: int
    batch_key: tuple
    pixels_cost: int


things = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 50))).map(
    lambda pairs: [Thing(n, (key,), cost) for n, (key, cost) in enumerate(pairs)]
)
policies = st.builds(BatchPolicy, items=st.integers(1, 6), budget=st.integers(1, 100))


def batches_of(policy: BatchPolicy, offered: list[Thing]) -> list[list[Thing]]:
    batcher: Batcher[Thing] = Batcher(policy)
    closed = [batch for thing in offered if (batch := batcher.offer(thing))]
    return closed + batcher.drain()


@given(policies, things)
def test_every_item_is_in_exactly_one_batch(policy, offered):
    batched = [thing.number for batch in batches_of(policy, offered) for thing in batch]
    assert sorted(batched) == [thing.number for thing in offered]


@given(policies, things)
def test_a_batch_has_one_key_and_keeps_to_the_policy(policy, offered):
    for batch in batches_of(policy, offered):
        assert len({thing.batch_key for thing in batch}) == 1
        assert policy.fits(len(batch), sum(thing.pixels_cost for thing in batch))
        assert [t.number for t in batch] == sorted(t.number for t in batch)


def test_what_is_larger_than_the_budget_runs_alone():
    offered = [Thing(0, (), 5), Thing(1, (), 1000), Thing(2, (), 5)]
    sizes = [len(batch) for batch in batches_of(BatchPolicy(items=8, budget=10), offered)]
    assert sizes == [1, 1, 1]


def test_nothing_is_left_after_draining():
    batcher: Batcher[Thing] = Batcher(BatchPolicy(8, 100))
    batcher.offer(Thing(0, (), 1))
    assert [len(b) for b in batcher.drain()] == [1]
    assert batcher.drain() == []


def test_the_default_budgets_hold_a_full_batch_of_predictions():
    assert default_budget("cuda") > default_budget("cpu") >= 64 * 224 * 224
