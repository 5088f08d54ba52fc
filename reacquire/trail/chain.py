"""Events on disk: a file a process and day, one JSON object a line, each line holding the digest of the one before.

A line that is altered, removed from the middle or inserted breaks the chain there. What a chain can't show is a cut at
its end; so each file ends with a line that says so, and the next file of a process names the last digest of the one
before. Retention removes whole files and first puts on record, in the chain of the process that does it, which file and
its last digest (a ``prune`` line): a file that is gone without one was taken by somebody else.
"""

import errno
import hashlib
import json
import os
import re
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from reacquire.trail.events import Event

GENESIS = "0" * 64
CLOSE, TURN = "close", "turn"  # the last line of a file: of the process, or of the day and another file follows
NAME = re.compile(r"(\d{4}-\d{2}-\d{2})-([a-z]+)-([0-9a-f]{12})\.jsonl")


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
        self._path = folder
        self._descriptor = -1
        self._torn: int | None = None  # where a line begins that is not known to be whole
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
            self._append({"time": _now(), **event.model_dump(exclude_defaults=True)})

    def close(self) -> None:
        """End the file, so that a cut of its last lines shows."""
        with self._lock:
            self._end()

    def _turn(self, now: datetime) -> None:
        self._end(TURN)
        self._path = self._folder / f"{now:%Y-%m-%d}-{self._process}-{self._own}.jsonl"
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._day = now.date()  # only now: a file that could not be opened is tried again with the next event
        if self._retention is not None:
            self._prune(before=self._day - timedelta(days=self._retention))

    def _prune(self, *, before: date) -> None:
        """Remove the files of older days, each after its checkpoint and those it held are on the disk."""
        for path in files_of(self._folder):
            if date.fromisoformat(path.name[:10]) >= before:
                break
            for event in _checkpoints(path, self._process):
                self._append({"time": _now(), **event.model_dump(exclude_defaults=True)})
            path.unlink(missing_ok=True)

    def _end(self, action: str = CLOSE) -> None:
        if self._descriptor >= 0:
            if self._path.exists():  # else it was pruned meanwhile, and its checkpoint names the line before this one
                self._append({"time": _now(), "action": action})
            os.close(self._descriptor)
            self._descriptor, self._torn = -1, None

    def _append(self, fields: dict[str, Any]) -> None:
        """A whole line on the disk, or OSError and the file as it was: a disk that is full must not break the chain."""
        self._mend()
        line = _line({**fields, "before": self._last})
        self._torn = os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, line) < len(line):  # one write: O_APPEND keeps lines whole
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):  # then before the next line
                self._mend()
            raise
        self._torn = None
        self._last = digest(line)

    def _mend(self) -> None:
        """Take back what an append that failed left behind."""
        if self._torn is not None:
            os.ftruncate(self._descriptor, self._torn)
            self._torn = None


def _line(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, sort_keys=True, separators=(",", ":")) + "\n").encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def files_of(folder: Path) -> list[Path]:
    """The files of a trail, oldest day first."""
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def parsed(line: bytes) -> Mapping[str, Any]:
    """The fields of a line; empty for what is no event."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def digest(line: bytes) -> str:
    """What the next line names."""
    return hashlib.sha256(line).hexdigest()


def _checkpoints(path: Path, who: str) -> list[Event]:
    """What must outlive a file: its own last digest, and its checkpoints of chains that may still go on."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:  # another process was quicker, and left the checkpoint
        return []
    if not lines:
        return []
    goes_on = parsed(lines[-1]).get("action") != CLOSE
    own = Event(action="prune", who=who, file=path.name, last=digest(lines[-1]), open=goes_on)
    held = [fields for line in lines if (fields := parsed(line)).get("action") == "prune" and fields.get("open")]
    return [own, *(Event(action="prune", who=who, file=f["file"], last=f["last"], open=True) for f in held)]
