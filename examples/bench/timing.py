"""How things are timed: medians, because a machine has neighbours; ratios pair by pair, because those come and go."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch


def wait(device: str) -> None:
    """Until the device has done what it was told."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def once(action: Callable[[], Any], device: str = "cpu") -> float:
    """Seconds of one run."""
    wait(device)
    started = time.perf_counter()
    action()
    wait(device)
    return time.perf_counter() - started


def seconds(
    action: Callable[[], Any], repeats: int = 3, *, device: str = "cpu", warm_up: Callable[[], Any] | None = None
) -> float:
    """The median of some runs after one to warm up (``action`` itself, unless something shorter warms as well)."""
    (warm_up or action)()
    return median(once(action, device) for _ in range(repeats))


def interleaved(actions: Sequence[Callable[[], Any]], repeats: int, *, device: str = "cpu") -> list[list[float]]:
    """Seconds of each action in each round; all take part in every round, so that a busy moment hits all of them."""
    return [[once(action, device) for action in actions] for _ in range(repeats)]
