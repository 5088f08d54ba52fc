"""Cohort manifest -> memory-mapped slices at the model's size, read by the same code that serves.

The cache holds what training touches at every step: normalised slices (float16), labels (uint8), and where the cohort
has them noiseless truths. It is built once and never altered; there are no pickles in it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image

from reacquire.dicom import SliceImage, read_slice
from reacquire.iap import load_vocabulary
from reacquire.imaging import Preprocessing
from training.split import check_disjoint

Split = Literal["train", "val", "test"]
FORMAT = "reacquire-cache/2"
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
        When a patient is in two splits.
    """
    if (folder / "index.json").exists():
        raise FileExistsError(f"{folder} holds a cache already; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    manifest = cohort / "manifest.jsonl"
    entries = _usable(manifest)
    shape = (len(entries), preprocessing.size, preprocessing.size)
    images = open_memmap(folder / "images.npy", mode="w+", dtype=np.float16, shape=shape)
    labels = open_memmap(folder / "labels.npy", mode="w+", dtype=np.uint8, shape=shape)
    truth = all(entry["clean"] for entry in entries)
    cleans = open_memmap(folder / "cleans.npy", mode="w+", dtype=np.float16, shape=shape) if truth else None
    rows, synthetic = [], True
    for i, entry in enumerate(progress(entries)):
        slice_ = read_slice((cohort / entry["file"]).read_bytes(), allow_synthetic=True)
        synthetic &= slice_.header.synthetic
        images[i], labels[i], clean = _at_model_size(cohort, entry, slice_, preprocessing)
        if cleans is not None:
            cleans[i] = clean
        iap = load_vocabulary().recognise(entry["iap"])  # an ingest completes headers from the spreadsheet
        rows.append(Row(i, entry["woman"], entry["split"], entry["pair_group"], iap, entry["mask"] is not None))
    for array in (images, labels, cleans):
        if array is not None:
            array.flush()
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
    return open_cache(folder)


def _usable(manifest: Path) -> list[dict]:
    """The lines of a manifest that an ingest did not exclude, all with a split."""
    lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    used = [line for line in lines if not line.get("excluded")]
    if any(line["split"] is None for line in used):
        raise ValueError(f"{manifest} is not split; run reacquire-train split first")
    check_disjoint(used, manifest)
    return used


def _at_model_size(cohort: Path, entry: dict, slice_: SliceImage, preprocessing: Preprocessing) -> tuple:
    """(image, labels, clean or None) of one manifest line."""
    image = preprocessing.forward(slice_.canonical())
    labels = np.full(image.values.shape, UNKNOWN, np.uint8)
    if entry["mask"]:
        with Image.open(cohort / entry["mask"]) as mask:
            labels = preprocessing.forward_labels(slice_.orientation.to_canonical(np.asarray(mask)))
    clean = None
    if entry["clean"]:
        truth = slice_.orientation.to_canonical(np.load(cohort / entry["clean"], allow_pickle=False))
        clean = preprocessing.on_scale_of(truth, image)
    return image.values, labels, clean
