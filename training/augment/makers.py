"""Who makes the counterfactuals: this process, or the workers of an installation (``broker``). Both give the same.

A maker takes items and yields each with the DICOM file and the document that the service would give; the order is its
own. An item that is refused (a slice without contrast, say) comes with its reason instead.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from reacquire.engine import Pipeline
from reacquire.errors import ReacquireError
from training.augment.plan import AugmentError, Item

DICOM, DOCUMENT = "counterfactual.dcm", "result.json"


@dataclass(frozen=True)
class Made:
    """One item: its file and document, or why there is none."""

    item: Item
    data: bytes = b""
    document: Mapping[str, Any] | None = None
    refused: str | None = None


class Maker(Protocol):
    """Makes items; ``name`` goes into the ledger."""

    @property
    def name(self) -> str: ...

    def __call__(self, items: Iterable[Item]) -> Iterator[Made]: ...


@dataclass(frozen=True)
class Local:
    """The networks in this process, ``slices`` at a time."""

    pipeline: Pipeline
    dataset: Path
    slices: int = 16
    name: str = "local"

    def __call__(self, items: Iterable[Item]) -> Iterator[Made]:
        todo = iter(items)
        while part := list(islice(todo, self.slices)):
            works, owners = [], []
            for item in part:
                try:
                    works.append(self.pipeline.prepare(item.spec, [source_bytes(self.dataset, item)]))
                    owners.append(item)
                except ReacquireError as error:
                    yield Made(item, refused=f"{error.code}: {error.detail}")
            for item, work, raw in zip(owners, works, self.pipeline.run(works) if works else [], strict=True):
                if raw is None or isinstance(raw, ReacquireError):
                    yield Made(item, refused=f"{raw.code}: {raw.detail}" if raw else "dropped")
                    continue
                outcome = self.pipeline.finish(work, raw)
                yield Made(item, outcome.artifacts[DICOM], json.loads(json.dumps(outcome.document)))


def source_bytes(dataset: Path, item: Item) -> bytes:
    """The DICOM file of an item's source.

    Raises
    ------
    AugmentError
        When it is gone.
    """
    path = dataset / item.line["file"]
    try:
        return path.read_bytes()
    except OSError as error:
        raise AugmentError(f"{path} cannot be read ({error.strerror}); put it back and go on with --resume") from error
