"""``python -m worker``: load the bundle, then consume jobs; exit status 2 for unusable settings or weights."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import redis
import structlog
from pydantic import ValidationError

from reacquire.bundles.store import BundleStore, open_bundle
from reacquire.errors import BundleError, ReacquireError
from reacquire.jobs.activation import Activation, Activations
from reacquire.jobs.logs import describe, set_up
from reacquire.jobs.record import BundleRef
from reacquire.jobs.store import JobStore, connect
from worker.items import Pipeline
from worker.settings import WorkerSettings

log = structlog.get_logger("worker")


def refuse(text: str) -> NoReturn:
    structlog.get_logger("worker").error("worker refuses to start", reason=text)
    raise SystemExit(2)


def pick_device(wanted: str) -> str:
    """``auto`` resolved: CUDA when there is one."""
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def main() -> int:
    """Run a worker with the settings of the environment."""
    try:
        settings = WorkerSettings()
    except ValidationError as error:
        set_up("worker", "info")
        refuse("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)))
    set_up("worker", settings.log_level)
    store = BundleStore(settings.bundles_root or settings.bundle.parent, also=(settings.bundle,))
    try:
        first, configured = first_bundle(settings, store)  # before torch, so that a refusal takes a moment
        from worker.app import Bundles, serve
        from worker.shelf import OnShelf, Shelf

        device = pick_device(settings.device)
        shelf = Shelf(store, loader(settings, device), keep=settings.bundles_kept)
        shelf.pick(first)
    except ReacquireError as error:
        refuse(error.detail)
    try:
        return serve(
            settings,
            OnShelf(shelf, first),
            device=device,
            bundle=first.series,
            bundles=Bundles(shelf, configured),
        )
    except ImportError as error:  # tracing was asked for without its extra
        refuse(str(error))


def first_bundle(settings: WorkerSettings, store: BundleStore) -> tuple[BundleRef, BundleRef | None]:
    """The bundle to start with, and that of the settings: the active one if an operator has chosen and it is here.

    Raises
    ------
    BundleError
        When neither is sound.
    """
    inventory, active = store.inventory(), chosen(settings)
    for folder in inventory.refused:
        log.error("bundle refused", folder=folder.folder, reason=folder.reason)
    here = inventory.with_hash(active.sha256) if active else None
    try:
        configured = open_bundle(settings.bundle).ref
    except BundleError as error:
        if here is None:
            raise BundleError(f"{error.detail}; sound bundles in {store.root}: {inventory.labels}") from None
        log.error("the configured bundle is not sound", reason=error.detail)
        return here.ref, None
    if active is not None and here is None:  # jobs that name what is here can still be run
        log.error("the active bundle is not in this store", bundle=active.label, there=inventory.labels)
    return (here.ref if here else configured), configured


def chosen(settings: WorkerSettings) -> BundleRef | None:
    """What an operator has made active; None for nothing, or while Redis is away: the warmer finds out later."""
    try:
        found: Activation = Activations(JobStore(connect(settings), settings)).read()
    except redis.RedisError as error:
        log.warning("activation not read", error=describe(error))
        return None
    return found.active if found.explicit else None


def loader(settings: WorkerSettings, device: str) -> Callable[[Path], Pipeline]:
    """From a folder to a pipeline that has run once."""

    def load(folder: Path) -> Pipeline:
        from reacquire.engine import load_pipeline

        pipeline = load_pipeline(
            folder, device=device, uid_root=settings.uid_root, least_support=settings.least_support
        )
        pipeline.warm()
        return pipeline

    return load


if __name__ == "__main__":
    sys.exit(main())
