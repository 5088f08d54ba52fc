"""Loads what the coming steps need while the present one computes.

Loading is a pure function of the step, so that threads change when something is loaded and never what.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(load: Callable[[int], T], steps: Iterable[int], *, threads: int = 1) -> Iterator[tuple[int, T]]:
    """(step, ``load(step)``) in the order of the steps, up to two per thread of them loaded in advance.

    What ``load`` raises is raised when its step's turn comes.
    """
    waiting: deque[tuple[int, Future[T]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="loader")
    try:
        for step in steps:
            waiting.append((step, pool.submit(load, step)))
            if len(waiting) > 2 * threads:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    finally:
        pool.shutdown(cancel_futures=True)


def _first(waiting: "deque[tuple[int, Future[T]]]") -> tuple[int, T]:
    step, future = waiting.popleft()
    return step, future.result()
