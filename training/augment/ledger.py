"""What is done: one JSON line per finished slice, on the disk before the next one is begun."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.augment.plan import AugmentError
from training.ingest.manifest import replace_file

LEDGER, PINS = "ledger.jsonl", "augment.json"


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


def open_folder(folder: Path, pins: Mapping[str, Any], *, resume: bool) -> None:
    """Begin in an empty folder, or go on with the same plan.

    Raises
    ------
    AugmentError
        For a folder that holds anything else: nothing is ever overwritten.
    """
    path = folder / PINS
    if path.exists():
        if not resume:
            raise AugmentError(f"{folder} holds an augmentation; go on with --resume or name a new folder")
        if json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(dict(pins))):
            raise AugmentError(
                f"{path} was begun with other data, weights or options; repeat those or name a new folder"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise AugmentError(f"{folder} is not empty and nothing is overwritten; name a new folder")
    replace_file(path, (json.dumps(dict(pins), indent=1, sort_keys=True) + "\n").encode())
