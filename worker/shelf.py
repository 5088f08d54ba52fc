"""The bundles that a worker has in memory: few, warm, the least recently used one leaves. Never fetches anything.

A job names its bundle by hash, so nothing here can put another one in its place.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from reacquire.bundles.store import BundleInfo, BundleStore
from reacquire.errors import BundleError, OverloadedError, ReacquireError
from reacquire.jobs.logs import describe
from reacquire.jobs.record import BundleRef
from reacquire.jobs.spec import OperationSpec
from worker import memory
from worker.items import Pipeline

log = structlog.get_logger("worker")


@dataclass(frozen=True)
class OnShelf:
    """A pipeline by its bundle: holds no networks itself, so that they can leave."""

    shelf: "Shelf"
    bundle: BundleRef

    def prepare(self, spec: OperationSpec, files: Sequence[bytes]) -> Any:
        return self.shelf.pick(self.bundle).prepare(spec, files)

    def run(
        self, works: Sequence[Any], on_step: Callable[[int, int], Collection[int]] | None = None
    ) -> list[Any | ReacquireError | None]:
        return self.shelf.pick(self.bundle).run(works, on_step)

    def finish(self, work: Any, raw: Any) -> Any:
        return self.shelf.pick(self.bundle).finish(work, raw)


@dataclass
class Shelf:
    """Pipelines by the hash of their bundle.

    Parameters
    ----------
    store : BundleStore
        Where bundles lie.
    load : callable
        Folder to a pipeline that has run once; what it raises becomes one of ours.
    keep : int
        Most bundles in memory. A batch at work may hold one more until it ends.
    """

    store: BundleStore
    load: Callable[[Path], Pipeline]
    keep: int = 2
    protected: Collection[str] = ()
    _held: OrderedDict[str, tuple[BundleInfo, Pipeline]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # of the table: short
    _loading: threading.Lock = field(default_factory=threading.Lock)  # one load at a time: long

    def pick(self, bundle: BundleRef) -> Pipeline:
        """The pipeline of a bundle, loaded and run once if it is not there yet.

        Raises
        ------
        BundleError
            ``model-unavailable`` when this worker does not have it, ``bundle-invalid`` when it does not load.
        OverloadedError
            When it does not fit into memory.
        """
        found = self._get(bundle.sha256)
        if found is not None:
            return found
        with self._loading:
            return self._get(bundle.sha256) or self._load(bundle)

    @property
    def warm(self) -> Mapping[str, str]:
        """What is in memory: hash to ``NAME@VERSION``, the least recently used first."""
        return {bundle.sha256: bundle.label for bundle in self.held}

    @property
    def held(self) -> list[BundleRef]:
        """What is in memory, the least recently used first."""
        with self._lock:
            return [info.ref for info, _ in self._held.values()]

    @property
    def offers(self) -> list[str]:
        """Hashes of what this worker could run: what lies in its store, and what it still has in memory."""
        return list(dict.fromkeys([*self.warm, *(info.sha256 for info in self.store.inventory().sound)]))

    def _get(self, sha256: str) -> Pipeline | None:
        with self._lock:
            if sha256 not in self._held:
                return None
            self._held.move_to_end(sha256)
            return self._held[sha256][1]

    def _load(self, bundle: BundleRef) -> Pipeline:
        info = self.store.inventory().with_hash(bundle.sha256)
        if info is None:
            raise BundleError(f"this worker has no sound bundle {bundle.label}", code="model-unavailable")
        self._make_room()
        try:
            pipeline = self.load(info.folder)
        except BundleError:
            raise
        except Exception as error:  # the networks, the driver, the memory
            log.error("bundle failed its warm-up", bundle=bundle.label, error=describe(error))
            if memory.is_out_of_memory(error):
                raise OverloadedError(f"{bundle.label} does not fit into the worker's memory") from None
            raise BundleError(f"{bundle.label} failed its warm-up ({type(error).__name__})") from None
        with self._lock:
            self._held[bundle.sha256] = (info, pipeline)
        log.info("bundle loaded", bundle=bundle.label, sha256=bundle.sha256)
        return pipeline

    def _make_room(self) -> None:
        """Let bundles go until one more may be held: those in the least demand first."""
        with self._lock:
            while len(self._held) >= self.keep:
                free = [sha256 for sha256 in self._held if sha256 not in self.protected]
                info, _ = self._held.pop((free or list(self._held))[0])
                log.info("bundle let go", bundle=info.ref.label)
        memory.release()
