"""Received instances on disk, from the moment their sender is told "success" until they are jobs: nothing is lost.

    tmp/                       being written; never acknowledged, hence emptied at start
    series/<name>/<name>.dcm   acknowledged; names are keyed digests, never a UID or a text of a header
    series/<name>/submitted    what was last submitted, a digest of the names of its files
    quarantine/<id>/           objects that cannot be used, and ``reason.json`` with the code of the rule they break

Files are complete and on the platter (fsync) before they are renamed into place, so a kill at any moment leaves either
the whole file or none. One process owns a spool at a time.
"""

import errno
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

Kept = Literal["kept", "known", "conflict"]
REASON, SUBMITTED = "reason.json", "submitted"
OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SpoolError(Exception):
    """The folder cannot be used as a spool."""


@dataclass(frozen=True)
class Held:
    """A series at rest: its own name, and its files in the order of their names.

    ``digest`` changes exactly when instances were added.
    """

    name: str
    files: tuple[Path, ...]
    digest: str

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.files)


@dataclass
class Spool:
    """A folder of received series; safe to share between threads.

    Parameters
    ----------
    root : created with mode 0700 when absent; all of it must be one file system

    Raises
    ------
    SpoolError
        When another process uses the folder.
    """

    root: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _settled: dict[str, int] = field(default_factory=dict, repr=False)  # series -> mtime_ns when it was last submitted

    def __post_init__(self) -> None:
        for folder in (self.root, *map(self._at, ("tmp", "series", "quarantine"))):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._owner = _own(self._at("owner"))
        self._salt = self._open_salt()
        for path in self._at("tmp").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for folder in self._at("series").iterdir():
            if (folder / REASON).exists():  # killed while it was being condemned
                self._move_to_quarantine(folder)

    def close(self) -> None:
        """Let another process have the folder."""
        self._owner.close()

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def keep(self, series_uid: str, instance_uid: str, data: bytes) -> Kept:
        """Store an instance for good; on return it survives a power cut.

        Returns
        -------
        str
            ``known`` when the very file is there already, ``conflict`` when another one has its SOPInstanceUID
            (nothing is stored then).
        """
        folder = self._at("series") / self._name(series_uid)
        final = folder / f"{self._name(instance_uid)}.dcm"
        part = self._write_part(data)
        try:
            with self._lock:
                if final.exists():
                    return "known" if final.read_bytes() == data else "conflict"
                if not folder.exists():
                    folder.mkdir(mode=0o700)
                    _sync_folder(folder.parent)
                part.replace(final)
                _sync_folder(folder)
            return "kept"
        finally:
            part.unlink(missing_ok=True)

    def quarantine(self, data: bytes, code: str) -> None:
        """Put one unsuitable object aside, for a person to look at."""
        folder = self._at("quarantine") / secrets.token_hex(16)
        part = self._write_part(data)
        try:
            folder.mkdir(mode=0o700)
            _write_reason(folder, code)
            part.replace(folder / "object.dcm")
            _sync_folder(folder)
            _sync_folder(folder.parent)
        finally:
            part.unlink(missing_ok=True)

    def due(self, quiet_s: float) -> list[Held]:
        """Series without a new instance for ``quiet_s`` that were not submitted as they are now."""
        found = []
        for folder in sorted(self._at("series").iterdir()):
            changed_ns = folder.stat().st_mtime_ns
            age_s = time.time() - changed_ns / 1e9
            # a time in the future is that of a clock that was set back: no reason to wait for it
            if 0 <= age_s < quiet_s or self._settled.get(folder.name) == changed_ns:
                continue
            held = self._held(folder)
            if not held.files or held.digest == _read(folder / SUBMITTED):
                self._settled[folder.name] = changed_ns
                continue
            found.append(held)
        return found

    def submitted(self, held: Held) -> None:
        """Remember that a series became jobs, in the form that it had then."""
        with self._lock:
            _write_synced(self._at("series") / held.name / SUBMITTED, held.digest.encode())

    def condemn(self, held: Held, code: str) -> None:
        """Put a whole series aside."""
        folder = self._at("series") / held.name
        with self._lock:
            _write_reason(folder, code)
            self._move_to_quarantine(folder)

    def sweep(self, *, keep_s: float, quarantine_s: float) -> None:
        """Delete submitted series and quarantined objects that nobody needs any longer."""
        for folder in list(self._at("series").iterdir()):
            with self._lock:
                if _age_s(folder) >= keep_s and self._held(folder).digest == _read(folder / SUBMITTED):
                    self._delete(folder)
                    self._settled.pop(folder.name, None)
        for folder in self._at("quarantine").iterdir():
            if _age_s(folder) >= quarantine_s:
                self._delete(folder)

    def counts(self) -> tuple[int, int]:
        """Series held, entries in quarantine."""
        return sum(1 for _ in self._at("series").iterdir()), sum(1 for _ in self._at("quarantine").iterdir())

    def _at(self, name: str) -> Path:
        return self.root / name

    def _name(self, uid: str) -> str:
        """A keyed digest: nobody who sees a path can tell, or check, what UID it stands for."""
        return hmac.new(self._salt, uid.encode(), hashlib.sha256).hexdigest()[:32]

    def _held(self, folder: Path) -> Held:
        files = tuple(sorted(folder.glob("*.dcm")))
        return Held(folder.name, files, _digest([path.name for path in files]))

    def _write_part(self, data: bytes) -> Path:
        part = self._at("tmp") / secrets.token_hex(16)
        try:
            _write_synced(part, data)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        return part

    def _move_to_quarantine(self, folder: Path) -> None:
        target = self._at("quarantine") / secrets.token_hex(16)
        (folder / SUBMITTED).unlink(missing_ok=True)
        folder.replace(target)
        _sync_folder(target.parent)
        _sync_folder(folder.parent)
        self._settled.pop(folder.name, None)

    def _delete(self, folder: Path) -> None:
        """All or nothing: half a series that a kill left behind would look like a new one."""
        doomed = self._at("tmp") / secrets.token_hex(16)
        folder.replace(doomed)
        shutil.rmtree(doomed)

    def _open_salt(self) -> bytes:
        path = self._at("salt")
        if not path.exists():
            part = self._write_part(secrets.token_bytes(32))
            part.replace(path)
            _sync_folder(self.root)
        return path.read_bytes()


def out_of_space(error: OSError) -> bool:
    """Whether a write failed for want of space."""
    return error.errno in OUT_OF_SPACE


def _own(path: Path) -> IO[bytes]:
    """A lock that ends with the process, however it ends."""
    handle = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise SpoolError("another process uses this spool") from error
    return handle


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def _write_reason(folder: Path, code: str) -> None:
    _write_synced(folder / REASON, json.dumps({"code": code, "at": round(time.time())}).encode())


def _write_synced(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
