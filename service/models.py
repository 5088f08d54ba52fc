"""``python -m service.models``: bundles for whoever runs the service: list, activate, rollback, pull. No torch.

Beside the API because its image has what this needs and its pod has Redis and the bundles: ``kubectl exec`` into one.
``reacquire models ...`` is the same program.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import redis
from pydantic import ValidationError

from reacquire.bundles.pull import pull_bundle
from reacquire.bundles.store import BundleStore
from reacquire.errors import BundleError, OverloadedError
from reacquire.jobs.activation import Activations
from reacquire.jobs.ends import open_trail
from reacquire.jobs.presence import Presence
from reacquire.jobs.record import BundleRef
from reacquire.jobs.store import JobStore, connect
from reacquire.jobs.switch import Switch
from service.doorkeeper import witness
from service.settings import ServiceSettings

OPERATOR = "operator"  # whoever can run commands in the pod


def parser() -> argparse.ArgumentParser:
    """The commands."""
    found = argparse.ArgumentParser(prog="reacquire models", description="Bundles of weights.")
    found.add_argument("--root", type=Path, help="folder of bundles (REACQUIRE_BUNDLES_ROOT)")
    commands = found.add_subparsers(dest="command", required=True)
    activate = commands.add_parser("activate", help="jobs without a pin get this bundle from here on")
    activate.add_argument("bundle", metavar="NAME@VERSION")
    rollback = commands.add_parser("rollback", help="activate the bundle that was active before")
    for command in (activate, rollback):
        command.add_argument("--patience", type=float, default=300.0, metavar="S", help="for workers to warm it up")
        command.add_argument("--cold", action="store_true", help="ask no worker; when none can start")
    pull = commands.add_parser("pull", help="fetch bundles from an object store into the folder, and verify them")
    pull.add_argument("urls", nargs="+", metavar="URL", help="s3://bucket/folder; credentials from AWS_*")
    commands.add_parser("active", help="which bundle is active, and which was before")
    return found


def activate(told: argparse.Namespace, settings: ServiceSettings) -> str:
    """``activate`` and ``rollback``."""
    inventory = BundleStore(settings.bundles_root).inventory()
    store = JobStore(connect(settings), settings)
    activations = Activations(store)
    switch = Switch(activations, Presence(store), patience_s=told.patience, cold=told.cold)
    if told.command == "activate":
        wanted = inventory.find(told.bundle).ref
        with on_record(settings, wanted):
            switch.activate(wanted)
        return f"{wanted.label} is active"
    previous = activations.read().previous
    if previous is not None and inventory.with_hash(previous.sha256) is None:
        text = f"{previous.label} is no longer in {settings.bundles_root}; there are: {inventory.labels}"
        raise BundleError(text, code="model-not-found")
    with on_record(settings, previous):
        return f"{switch.rollback().label} is active again"


@contextmanager
def on_record(settings: ServiceSettings, wanted: BundleRef | None) -> Iterator[None]:
    """Put a switch of weights on record before the block does it, and again when that was refused.

    Raises
    ------
    OverloadedError
        ``not-ready`` when it can't be put on record; nothing is switched then.
    """
    trail = open_trail(settings, "models")
    model = wanted.sha256 if wanted else None
    try:
        witness(trail, "activate", OPERATOR, model=model)
        try:
            yield
        except BundleError as error:
            witness(trail, "activate", OPERATOR, model=model, outcome=error.code)
            raise
    finally:
        if trail is not None:
            trail.close()


def active(settings: ServiceSettings) -> str:
    """``active``, as JSON."""
    state = Activations(JobStore(connect(settings), settings)).read()
    shown = {name: getattr(state, name) for name in ("active", "previous", "candidate")}
    return json.dumps({name: asdict(ref) if ref else None for name, ref in shown.items()}, indent=1)


def pull(urls: Sequence[str], root: Path) -> str:
    """``pull``."""
    lines = []
    for url in urls:
        info, fetched = pull_bundle(url, root)
        lines.append(f"{info.ref.label} {'pulled' if fetched else 'was there already'}: {info.folder} {info.sha256}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 when it was refused, 2 for arguments or settings that can't be used."""
    told = parser().parse_args(arguments)
    try:
        settings = ServiceSettings(**({"bundles_root": told.root} if told.root else {}))
        if told.command == "pull":
            text = pull(told.urls, settings.bundles_root)
        elif told.command == "active":
            text = active(settings)
        else:
            text = activate(told, settings)
    except ValidationError as error:
        return _refused("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()), 2)
    except (BundleError, OverloadedError) as error:
        return _refused(f"{error.detail} [{error.code}]", 1)
    except redis.RedisError:
        return _refused("Redis cannot be reached (REACQUIRE_REDIS_URL); nothing was changed [not-ready]", 1)
    except OSError as error:
        return _refused(f"{settings.bundles_root}: {error.strerror}", 1)
    sys.stdout.write(text + "\n")
    return 0


def _refused(text: str, status: int) -> int:
    sys.stderr.write(f"refused: {text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
