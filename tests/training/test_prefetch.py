"""Loading ahead changes when something is loaded, never what or in which order."""

import time
from collections.abc import Iterator
from itertools import islice

import pytest

from training.prefetch import ahead


@pytest.mark.parametrize("threads", [1, 4])
def test_steps_come_in_order_whoever_is_ready_first(threads: int) -> None:
    def load(step: int) -> int:
        time.sleep(0.01 * (step % 3 == 0))
        return step**2

    assert list(ahead(load, range(20), threads=threads)) == [(step, step**2) for step in range(20)]


def test_no_more_is_loaded_than_two_per_thread() -> None:
    asked: list[int] = []
    steps: Iterator[tuple[int, None]] = ahead(asked.append, range(1000))
    list(islice(steps, 3))
    time.sleep(0.05)
    assert len(asked) <= 5


def test_a_failure_is_raised_at_its_step() -> None:
    def load(step: int) -> float:
        return 1 / (2 - step)

    seen = []
    with pytest.raises(ZeroDivisionError):
        for step, _ in ahead(load, range(5)):
            seen.append(step)
    assert seen == [0, 1]
