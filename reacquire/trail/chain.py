"""Events on disk: a file a process and day, one JSON object a line, each line holding the digest of the one before.

A line that is altered, removed from the middle or inserted breaks the chain there. What a chain can't show is a cut at
its end; so each file ends with a line that says so, and the next file of a process names the last digest of the one
before. Retention removes whole files.
"""

import hashlib
import json
import os
import re
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from reacquire.trail.events import Event

GENESIS = "0" * 64
NAME = re.compile(r"(\d{4}-\d{2}-\d{2})-([a-z]+)-([0-9a-f]{12})\.jsonl")


@dataclass(frozen=True)
class Broken:
    """Where a chain does not hold: 1-based line of a file, and what is wrong with it."""

    file: str
    line: int
    reason: str


class Trail:
    """Appends events to the folder of the audit trail; safe to share between threads.

    Parameters
    ----------
    folder : Path
        Created with mode 0700. Each process writes files of its own, so nothing is locked between processes.
    process : str
        "service", "worker", "gateway": part of the file names.
    retention_days : int or None
        Files of days further back are removed when a new day begins; None keeps all.
    """

    def __init__(self, folder: Path, process: str, *, retention_days: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._process, self._retention = folder, process, retention_days
        self._own = uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        self._day: date | None = None
        self._descriptor = -1
        self._last = GENESIS

    def record(self, event: Event) -> None:
        """Append an event; it is on the disk when this returns.

        Raises
        ------
        OSError
            When it can't be written: whoever must not act unseen must not act then.
        """
        with self._lock:
            now = datetime.now(UTC)
            if now.date() != self._day:
                self._turn(now)
            self._append({"time": now.isoformat(timespec="milliseconds"), **event.model_dump(exclude_defaults=True)})
            os.fsync(self._descriptor)

    def close(self) -> None:
        """End the file, so that a cut of its last lines shows."""
        with self._lock:
            self._end()

    def _turn(self, now: datetime) -> None:
        self._end()
        self._day = now.date()
        path = self._folder / f"{self._day:%Y-%m-%d}-{self._process}-{self._own}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if self._retention is not None:
            _forget(self._folder, before=self._day - timedelta(days=self._retention))

    def _end(self) -> None:
        if self._descriptor >= 0:
            self._append({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "action": "close"})
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, fields: dict[str, Any]) -> None:
        line = _line({**fields, "before": self._last})
        os.write(self._descriptor, line)  # one write: O_APPEND keeps lines whole
        self._last = hashlib.sha256(line).hexdigest()


def _line(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, sort_keys=True, separators=(",", ":")) + "\n").encode()


def _forget(folder: Path, *, before: date) -> None:
    for path in folder.iterdir():
        found = NAME.fullmatch(path.name)
        if found and date.fromisoformat(found.group(1)) < before:
            path.unlink(missing_ok=True)


def verify_file(path: Path, before: str | None = None) -> tuple[str, bool, list[Broken]]:
    """Check one file.

    Parameters
    ----------
    before : str or None
        The digest that its first line must name; None takes what it names (its predecessor was removed by retention).

    Returns
    -------
    (digest of its last line, whether it was ended in order, what is broken)
    """
    broken, last, ended = [], before, False
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        try:
            fields = json.loads(line)
            named, action = fields["before"], fields["action"]
        except (ValueError, KeyError, TypeError):
            broken.append(Broken(path.name, number, "not an event"))
            last = hashlib.sha256(line).hexdigest()
            continue
        if ended:
            broken.append(Broken(path.name, number, "a line after the end"))
        if last is not None and named != last:
            broken.append(Broken(path.name, number, "a line before this one was altered, removed or inserted"))
        if not line.endswith(b"\n"):
            broken.append(Broken(path.name, number, "cut short"))
        last, ended = hashlib.sha256(line).hexdigest(), action == "close"
    return last or GENESIS, ended, broken


def verify_folder(folder: Path) -> Iterator[tuple[Path, bool, list[Broken]]]:
    """Every file of a trail in order of process and day: the file, whether it was ended in order, what is broken.

    A file that was not ended is one of a running process or of one that was killed; both are reported, not condemned.
    """
    chains: dict[str, str] = {}
    for path in sorted(p for p in folder.iterdir() if NAME.fullmatch(p.name)):
        found = NAME.fullmatch(path.name)
        assert found is not None
        own = found.group(3)
        chains[own], ended, broken = verify_file(path, chains.get(own))
        yield path, ended, broken
