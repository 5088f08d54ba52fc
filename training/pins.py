"""A folder that one long command fills: begun once, gone on with under the same facts only, never overwritten."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.ingest.manifest import replace_file


class PinError(Exception):
    """One message that names the folder and the remedy."""


def open_pinned(path: Path, pins: Mapping[str, Any], *, what: str, resume: bool) -> None:
    """Begin in an empty folder, or go on with the same ``pins``, which are kept in the file ``path``.

    Raises
    ------
    PinError
        For a folder that holds anything else: nothing is ever overwritten.
    """
    folder = path.parent
    if path.exists():
        if not resume:
            raise PinError(f"{folder} holds {what}; go on with --resume or name a new folder")
        if json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(dict(pins))):
            raise PinError(f"{path} was begun with other data, weights or options; repeat those or name a new folder")
        return
    if folder.exists() and any(folder.iterdir()):
        raise PinError(f"{folder} is not empty and nothing is overwritten; name a new folder")
    replace_file(path, (json.dumps(dict(pins), indent=1, sort_keys=True) + "\n").encode())
