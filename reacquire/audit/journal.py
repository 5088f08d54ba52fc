"""What an audit has found so far, a line a series, so that a stopped one goes on where it was.

Series go by a keyed hash of their UID. The key stays in the journal, which only its owner may read: whoever has the key
and a UID could tell whether that series was audited. Tables and figures hold neither.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from reacquire.audit.compare import Comparison
from reacquire.errors import InputError

NAME = "audit.journal"
ID_CHARS = 16


@dataclass(frozen=True)
class SeriesAudit:
    """One series: its hashed id, how many slices it has and how many were looked at, and its comparisons.

    ``refused`` is the code of the error that kept it from being judged; ``identity`` is empty unless asked for.
    """

    id: str
    slices: int = 0
    looked_at: int = 0
    comparisons: tuple[Comparison, ...] = ()
    refused: str | None = None
    identity: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "comparisons": tuple(Comparison(**c) for c in data["comparisons"])})


class Journal:
    """The file, open for appending while the ``with`` block lasts; ``done`` is what it holds, by series."""

    def __init__(self, folder: Path, setup: Mapping[str, Any]) -> None:
        """Open or continue the journal in ``folder``.

        Parameters
        ----------
        setup : what must not change between two parts of one audit

        Raises
        ------
        InputError
            When the folder holds the journal of an audit with another setup.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / NAME
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        entries = [e for e in map(_parsed, lines) if e is not None]  # a kill may have cut the last line short
        if entries and entries[0].get("setup") != setup:
            raise InputError("the output folder holds an audit with other settings; name another one")
        self._key = bytes.fromhex(entries[0]["key"]) if entries else secrets.token_bytes(32)
        self.done = {entry["id"]: SeriesAudit.of(entry) for entry in entries[1:]}
        self._rewrite([{"setup": setup, "key": self._key.hex()}, *(asdict(audit) for audit in self.done.values())])
        self._stream = self._path.open("a", encoding="utf-8")

    def id_of(self, series_uid: str) -> str:
        """The name of a series in every table of this audit."""
        return hmac.new(self._key, series_uid.encode(), hashlib.sha256).hexdigest()[:ID_CHARS]

    def add(self, audit: SeriesAudit) -> None:
        """Remember a series, on disk at once."""
        self.done[audit.id] = audit
        self._write(asdict(audit))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._stream.write(_line(entry))
        self._stream.flush()

    def _rewrite(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """The file with whole lines only, readable by its owner only, exchanged in one step."""
        new = self._path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            stream.writelines(map(_line, entries))
        new.replace(self._path)


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return entry
