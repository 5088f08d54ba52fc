"""API keys: a file of hashed keys, read again when it changes, so that a revoked key stops working without a restart.

A key is ``rq_<id>_<secret>`` with 256 random bits in the secret, so a plain SHA-256 protects it at rest: there is
nothing to guess, which is what slow password hashes are for.
"""

import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from reacquire.access.principal import Principal, Scope
from reacquire.errors import AccessError

PREFIX = "rq"
LOOK_AGAIN_S = 2.0  # how long a revoked key may live on


class KeyRecord(BaseModel):
    """One line of the file. ``sha256`` is of the secret part; the key itself is written nowhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9]{4,32}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: list[Scope]
    per_minute: int | None = Field(None, ge=1)
    concurrent: int | None = Field(None, ge=1)
    expires: AwareDatetime | None = None
    note: str = Field("", max_length=200, description="for the administrator; not shown to anyone")


_FILE = TypeAdapter(list[KeyRecord])


def new_key(scopes: Sequence[Scope], **limits: object) -> tuple[str, KeyRecord]:
    """A fresh key, to be shown once, and its record for the file."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    record = KeyRecord.model_validate(
        {"id": key_id, "sha256": _digest(secret), "scopes": list(scopes), **limits}, strict=False
    )
    return f"{PREFIX}_{key_id}_{secret}", record


def read_keys(path: Path) -> list[KeyRecord]:
    """The records of a file.

    Raises
    ------
    OSError, pydantic.ValidationError, ValueError
        When it can't be read, breaks the format or holds an id twice.
    """
    records = _FILE.validate_json(path.read_bytes())
    if len({record.id for record in records}) != len(records):
        raise ValueError("two keys have one id")
    return records


def add_key(path: Path, record: KeyRecord) -> None:
    """Append a record."""
    _write(path, [*(read_keys(path) if path.exists() else []), record])


def remove_key(path: Path, key_id: str) -> bool:
    """Take a record out; False when there is none of that id."""
    records = read_keys(path)
    kept = [record for record in records if record.id != key_id]
    if len(kept) == len(records):
        return False
    _write(path, kept)
    return True


def _write(path: Path, records: Sequence[KeyRecord]) -> None:
    """The file appears whole or not at all, readable by its owner alone."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_FILE.dump_json(list(records), indent=1, exclude_defaults=True))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@dataclass(frozen=True)
class _Loaded:
    records: Mapping[str, KeyRecord]
    stamp: tuple[int, int]


class KeyRing:
    """Knows the callers of a key file; safe to share between threads.

    A file that has become unreadable or broken keeps the keys that were read last: a slip of an editor must not lock a
    hospital out. At start such a file is an error.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._loaded = self._load()
        self._next_look = time.monotonic() + LOOK_AGAIN_S

    def identify(self, presented: str) -> Principal:
        """The caller behind a key.

        Raises
        ------
        AccessError
            ``unauthorized`` for an unknown, wrong or expired key; which of them is not said.
        """
        prefix, _, rest = presented.partition("_")
        key_id, _, secret = rest.partition("_")
        record = self._current().records.get(key_id)
        expected = record.sha256 if record else "0" * 64
        matches = hmac.compare_digest(_digest(secret), expected)
        if prefix != PREFIX or record is None or not matches or _expired(record):
            raise AccessError("this API key is not valid", code="unauthorized")
        return Principal(f"key-{record.id}", frozenset(record.scopes), record.per_minute, record.concurrent)

    def _current(self) -> _Loaded:
        with self._lock:
            if time.monotonic() >= self._next_look:
                self._next_look = time.monotonic() + LOOK_AGAIN_S
                try:
                    if _stamp(self._path) != self._loaded.stamp:
                        self._loaded = self._load()
                except (OSError, ValueError):  # pydantic's ValidationError is a ValueError
                    pass
            return self._loaded

    def _load(self) -> _Loaded:
        stamp = _stamp(self._path)
        return _Loaded({record.id: record for record in read_keys(self._path)}, stamp)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _expired(record: KeyRecord) -> bool:
    return record.expires is not None and record.expires <= datetime.now(UTC)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
