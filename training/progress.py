"""Progress bars on the terminal; everything else in this package is silent."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.loop import Report


def _bar() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, TextColumn("{task.fields[note]}"))


def tracked(items: Iterable, description: str, total: int | None = None) -> Iterator:
    """Iterate with a bar; with ``total`` the items are taken one by one, as they are made."""
    if total is None:
        items = list(items)
        total = len(items)
    with _bar() as bar:
        task = bar.add_task(description, total=total, note="")
        for item in items:
            yield item
            bar.advance(task)


@contextmanager
def steps(total: int, description: str) -> Iterator[Report]:
    """A bar over training steps that shows a running mean of the loss."""
    mean: float | None = None
    with _bar() as bar:
        task = bar.add_task(description, total=total, note="")

        def report(step: int, loss: float) -> None:
            nonlocal mean
            mean = loss if mean is None else 0.98 * mean + 0.02 * loss
            bar.update(task, completed=step + 1, note=f"loss {mean:.4f}")

        yield report


@contextmanager
def counted(total: int, description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told (done, total)."""
    with _bar() as bar:
        task = bar.add_task(description, total=total, note="")
        yield lambda done, of: bar.update(task, completed=done, total=of)
