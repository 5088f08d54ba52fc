"""Cohort manifest -> memory-mapped slices at the model's size, read by the same code that serves.

The cache holds what training touches at every step: normalised slices (float16), labels (uint8), and where the cohort
has them noiseless truths. It is built once and never altered; there are no pickles in it.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image

from reacquire.dicom import read_slice
from reacquire.errors import ReacquireError
from reacquire.iap import load_vocabulary
from reacquire.imaging import Preprocessing
from training.ingest.manifest import disk_error
from training.ingest.problem import IngestError
from training.split import check_disjoint

Split = Literal["train", "val", "test"]
FORMAT = "reacquire-cache/2"
ARRAYS = ("images", "labels", "cleans")
REBUILT = "repeat the command: the cache is then built from its beginning, all else is kept"
UNKNOWN = 255  # label of every pixel of a slice without a mask


@dataclass(frozen=True)
class Row:
    """One slice of the cache: who and where it is, and the recognised parameters of its header."""

    index: int
    woman: int
    split: Split
    pair_group: str
    iap: dict[str, str | float]
    masked: bool = True  # without a mask nothing is known of the tissues: ``labels`` are UNKNOWN there


@dataclass(frozen=True)
class SliceCache:
    """Slices at model size.

    Attributes
    ----------
    images : (N, S, S) float16, percentile-normalised
    labels : (N, S, S) uint8, 0 background, 1 breast without fibroglandular tissue, 2 fibroglandular tissue; UNKNOWN
        in rows that are not ``masked``
    cleans : (N, S, S) float16, noiseless truth on the scale of ``images``; None when the cohort has none
    preprocessing : ``Preprocessing.to_dict`` of what made them
    cohort : sha256 of the cohort's manifest
    synthetic : whether every file of the cohort is marked as synthetic
    """

    rows: tuple[Row, ...]
    images: NDArray[np.float16]
    labels: NDArray[np.uint8]
    cleans: NDArray[np.float16] | None
    preprocessing: dict[str, Any]
    cohort: str
    synthetic: bool

    def split(self, name: Split, *, masked: bool = False) -> tuple[Row, ...]:
        """The rows of a split; with ``masked`` those alone whose tissues are known."""
        return tuple(row for row in self.rows if row.split == name and (row.masked or not masked))


def open_cache(folder: Path) -> SliceCache:
    """Map a cache that ``build_cache`` finished.

    Raises
    ------
    FileNotFoundError
        When the folder holds no finished cache (``index.json`` is written last).
    """
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    if index["format"] != FORMAT:
        raise ValueError(f"{folder} has the format {index['format']}, this version reads {FORMAT}: build it again")
    images, labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    truth = folder / "cleans.npy"
    cleans = np.load(truth, mmap_mode="r") if truth.exists() else None
    rows = tuple(Row(**row) for row in index["rows"])
    return SliceCache(rows, images, labels, cleans, index["preprocessing"], index["cohort"], index["synthetic"])


def build_cache(
    cohort: Path,
    folder: Path,
    preprocessing: Preprocessing,
    *,
    progress: Callable[[Iterable], Iterable] = iter,
) -> SliceCache:
    """Read every slice of a cohort's ``manifest.jsonl`` and write the cache.

    Raises
    ------
    FileExistsError
        When the folder holds a cache already: caches are never overwritten.
    ValueError
        When the manifest is not split yet.
    IngestError
        When a patient is in two splits, a file can't be used, or the cache can't be written; it names the file.
    """
    if (folder / "index.json").exists():
        raise FileExistsError(f"{folder} holds a cache already; name another folder")
    manifest = cohort / "manifest.jsonl"
    entries = _usable(manifest)
    try:
        rows, synthetic = _write_arrays(cohort, entries, folder, preprocessing, progress)
        index = {
            "format": FORMAT,
            "preprocessing": preprocessing.to_dict(),
            "cohort": hashlib.sha256(manifest.read_bytes()).hexdigest(),
            "synthetic": synthetic,
            "rows": [asdict(row) for row in rows],
        }
        part = folder / ".index.json.part"  # the index says that the cache is finished: whole or not at all
        part.write_text(json.dumps(index), encoding="utf-8")
        part.replace(folder / "index.json")
    except OSError as error:  # of writing: a file that can't be read has its own message
        with suppress(OSError):
            _clear(folder)
        raise disk_error(error, folder, remedy=REBUILT) from error
    return open_cache(folder)


def _write_arrays(
    cohort: Path, entries: list[dict], folder: Path, preprocessing: Preprocessing, progress: Callable
) -> tuple[list[Row], bool]:
    """Fill the arrays of a cache; returns its rows and whether all of them are synthetic."""
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)  # what a build that was broken off has left
    shape = (len(entries), preprocessing.size, preprocessing.size)
    images = _reserve(folder / "images.npy", np.float16, shape)
    labels = _reserve(folder / "labels.npy", np.uint8, shape)
    truth = all(entry["clean"] for entry in entries)
    cleans = _reserve(folder / "cleans.npy", np.float16, shape) if truth else None
    rows, synthetic = [], True
    for i, entry in enumerate(progress(entries)):
        images[i], labels[i], clean, marked = _at_model_size(cohort, entry, preprocessing)
        if cleans is not None:
            cleans[i] = clean
        synthetic &= marked
        iap = load_vocabulary().recognise(entry["iap"])  # an ingest completes headers from the spreadsheet
        rows.append(Row(i, entry["woman"], entry["split"], entry["pair_group"], iap, entry["mask"] is not None))
    for array in (images, labels, cleans):
        if array is not None:
            array.flush()
    return rows, synthetic


def _reserve(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """A new array on disk with all of its blocks: writing into a sparse one would kill the process on a full disk."""
    array = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _clear(folder: Path) -> None:
    """Remove the arrays of an unfinished cache."""
    for name in ARRAYS:
        (folder / f"{name}.npy").unlink(missing_ok=True)


def _usable(manifest: Path) -> list[dict]:
    """The lines of a manifest that an ingest did not exclude, all with a split."""
    lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    used = [line for line in lines if not line.get("excluded")]
    if any(line["split"] is None for line in used):
        raise ValueError(f"{manifest} is not split; run reacquire-train split first")
    check_disjoint(used, manifest)
    return used


def _at_model_size(cohort: Path, entry: dict, preprocessing: Preprocessing) -> tuple:
    """(image, labels, clean or None, whether the slice is marked as synthetic) of one manifest line."""
    with _named(entry["file"]):
        slice_ = read_slice((cohort / entry["file"]).read_bytes(), allow_synthetic=True)
        image = preprocessing.forward(slice_.canonical())
    labels = np.full(image.values.shape, UNKNOWN, np.uint8)
    if entry["mask"]:
        with _named(entry["mask"]), Image.open(cohort / entry["mask"]) as mask:
            labels = preprocessing.forward_labels(slice_.orientation.to_canonical(np.asarray(mask)))
    clean = None
    if entry["clean"]:
        with _named(entry["clean"]):
            truth = slice_.orientation.to_canonical(np.load(cohort / entry["clean"], allow_pickle=False))
            clean = preprocessing.on_scale_of(truth, image)
    return image.values, labels, clean, slice_.header.synthetic


@contextmanager
def _named(file: str) -> Iterator[None]:
    """What goes wrong with a file of the manifest, as one message that names it."""
    try:
        yield
    except (ReacquireError, OSError, ValueError, EOFError) as error:
        why = getattr(error, "strerror", None) or error  # the text of an OSError repeats the path
        raise IngestError(
            f"{file} can't be used ({why}); get the file again, or give its line in manifest.jsonl a reason under "
            '"excluded" and repeat the command'
        ) from error
