"""What is done: one JSON line per finished slice, on the disk before the next one is begun."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.ingest.manifest import replace_file

LEDGER = "ledger.jsonl"


class Ledger:
    """The ledger in ``folder``; one process writes it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEDGER

    def read(self) -> dict[str, dict[str, Any]]:
        """Finished slices by key; a line that a kill cut off is dropped."""
        if not self._path.exists():
            return {}
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            replace_file(self._path, whole)
        entries = [json.loads(line) for line in whole.splitlines()]
        return {entry["key"]: entry for entry in entries}

    def add(self, entry: Mapping[str, Any]) -> None:
        """Enter a finished slice."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(entry), sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
