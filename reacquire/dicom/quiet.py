"""Keeps header values out of warnings: pydicom and highdicom put them (patient names too) into their warning texts."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()  # the filters of the warnings module belong to the whole process


@contextmanager
def neutral_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Swallow the warnings raised inside; yields the list that collects them, for counting only.

    Callers report *that* something was odd in words of their own. Threads take turns, so keep the block short.
    """
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
