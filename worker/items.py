"""What a worker works on: a claimed job with the pipeline of its own bundle, and what a pipeline must offer."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reacquire.errors import ReacquireError
from reacquire.jobs.record import BundleRef, Claim, Model
from reacquire.jobs.spec import OperationSpec


class Pipeline(Protocol):
    """What the worker needs of ``reacquire.engine.Pipeline``."""

    def prepare(self, spec: OperationSpec, files: Sequence[bytes]) -> Any: ...

    def run(
        self, works: Sequence[Any], on_step: Callable[[int, int], Collection[int]] | None = None
    ) -> list[Any | ReacquireError | None]: ...

    def finish(self, work: Any, raw: Any) -> Any: ...


class Pipelines(Protocol):
    """What the worker needs of ``worker.shelf.Shelf``."""

    def pick(self, bundle: BundleRef) -> Pipeline: ...


@dataclass(frozen=True)
class Item:
    """A claimed job, ready for the networks of its bundle."""

    claim: Claim
    operation: str
    work: Any
    pipeline: Pipeline
    bundle: str = ""
    delivers: bool = False
    trace: str = ""

    @property
    def batch_key(self) -> tuple:
        return (self.bundle, self.operation, self.work.batch_key)

    @property
    def model(self) -> Model:
        """The weights that it runs on."""
        return model_of(self.pipeline)

    @property
    def pixels_cost(self) -> int:
        return int(self.work.pixels_cost)


class Elsewhere(Exception):
    """Another worker has the bundle of this job."""


def model_of(pipeline: Pipeline) -> Model:
    """The weights behind a pipeline; nameless for one without a bundle, such as a fake."""
    bundle = getattr(pipeline, "bundle", None)
    return Model() if bundle is None else Model(f"{bundle.name}-{bundle.version}", bundle.sha256)
