"""``python -m worker``: load the bundle, then consume jobs; exit status 2 for unusable settings or weights."""

import sys
from typing import NoReturn

import structlog
from pydantic import ValidationError

from reacquire.bundles.store import open_bundle
from reacquire.errors import BundleError
from reacquire.jobs.logs import set_up
from worker.settings import WorkerSettings


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
    try:
        open_bundle(settings.bundle)  # refuses in a moment what would be refused again after torch was imported
        from reacquire.engine import load_pipeline

        device = pick_device(settings.device)
        pipeline = load_pipeline(settings.bundle, device=device, uid_root=settings.uid_root)
        pipeline.warm()
    except BundleError as error:
        refuse(error.detail)
    from worker.app import serve

    return serve(settings, pipeline, device=device, bundle=f"{pipeline.bundle.name}-{pipeline.bundle.version}")


if __name__ == "__main__":
    sys.exit(main())
