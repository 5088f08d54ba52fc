"""Finished edits on disk, found by what they were made from; safe for any number of processes at once.

A file appears under its name only when it is complete, and what lies under a name never changes: two processes that
make the same edit write equal bytes, whoever comes last.
"""

import errno
import hashlib
import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from reacquire.iap import Value


@dataclass(frozen=True)
class EditStore:
    """Edited images with their complete targets in ``folder``, one file each."""

    folder: Path

    @staticmethod
    def key(image: NDArray[Any], facts: Mapping[str, Any]) -> str:
        """Digest of the pixels (with shape and type) and of everything else that decides the result."""
        text = json.dumps({**facts, "shape": image.shape, "dtype": image.dtype.str}, sort_keys=True)
        digest = hashlib.sha256(text.encode())
        digest.update(np.ascontiguousarray(image).tobytes())
        return digest.hexdigest()

    def get(self, key: str) -> tuple[NDArray[Any], dict[str, Value]] | None:
        """The image and the complete target under ``key``; None when there is nothing or the file is damaged."""
        try:
            # read whole: numpy leaves a damaged file open
            with np.load(BytesIO(self._path(key).read_bytes()), allow_pickle=False) as found:
                return found["image"], json.loads(str(found["target"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, EOFError, OSError, BadZipFile):  # whatever happened to the disk: made again
            return None

    def put(self, key: str, image: NDArray[Any], target: Mapping[str, Value]) -> None:
        """Keep an edit. A full disk is a warning: the training goes on without the store."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
                part = Path(file.name)
                try:
                    np.savez(file, image=image, target=np.array(json.dumps(dict(target))))
                except BaseException:
                    part.unlink(missing_ok=True)
                    raise
            part.replace(path)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            warnings.warn(f"{self.folder} is full: counterfactuals are made anew every time", stacklevel=2)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"
