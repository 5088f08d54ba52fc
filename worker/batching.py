"""Which jobs share a run of the networks: a pure policy of key, cost and count; no Celery, no torch, no clock.

The budget is in slices x steps x pixels, not in requests: one request may bring a whole series (bentoml/BentoML#3859).
"""

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Batchable(Protocol):
    """What the policy needs to know of an item."""

    @property
    def batch_key(self) -> tuple: ...

    @property
    def pixels_cost(self) -> int: ...


Item = TypeVar("Item", bound=Batchable)


@dataclass(frozen=True)
class BatchPolicy:
    """At most ``items`` jobs and ``budget`` slices x steps x pixels a batch; a larger single job runs alone."""

    items: int
    budget: int

    def fits(self, count: int, cost: int) -> bool:
        """Whether a batch of ``count`` jobs and ``cost`` is allowed."""
        return count <= 1 or (count <= self.items and cost <= self.budget)


@dataclass
class Batcher(Generic[Item]):
    """Collects items and hands out a batch as soon as the next item of its key would not fit."""

    policy: BatchPolicy
    _open: dict[tuple, list[Item]] = field(default_factory=dict)

    def offer(self, item: Item) -> list[Item] | None:
        """Add an item; the batch that had to be closed for it, if any."""
        waiting = self._open.setdefault(item.batch_key, [])
        cost = sum(i.pixels_cost for i in waiting) + item.pixels_cost
        if self.policy.fits(len(waiting) + 1, cost):
            waiting.append(item)
            return None
        self._open[item.batch_key] = [item]
        return waiting

    def drain(self) -> list[list[Item]]:
        """The open batches, in the order in which their keys were first seen; nothing is open afterwards."""
        batches = [batch for batch in self._open.values() if batch]
        self._open = {}
        return batches


def default_budget(device: str) -> int:
    """A budget that keeps a batch to seconds; on CUDA 64 times that of a CPU.

    On a CPU it holds 79 slices of predictions or 13 of edits in 6 steps without guidance, at 224 x 224; guidance needs
    two evaluations a step and so halves that.
    """
    return 4_000_000 if device == "cpu" else 256_000_000
