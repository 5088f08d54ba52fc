"""A cache of random slices: what training needs to run, without simulating anyone."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from reacquire.imaging import Preprocessing
from training.cache import FORMAT, Row, SliceCache, open_cache

SIEMENS = {
    "Manufacturer": "SIEMENS",
    "ManufacturerModelName": "Avanto",
    "MagneticFieldStrength": 1.5,
    "ScanOptions": "PFP\\FS",
    "FlipAngle": 10.0,
    "SliceThickness": 2.0,
    "EchoTime": 1.4,
    "RepetitionTime": 4.2,
}
GE = {
    **SIEMENS,
    "Manufacturer": "GE MEDICAL SYSTEMS",
    "ManufacturerModelName": "SIGNA HDx",
    "ScanOptions": "FAST_GEMS\\SAT_GEMS\\MP_GEMS\\PFP\\FS",
    "EchoTime": 2.4,
}


def write_fake_cache(
    folder: Path, *, women: int = 8, size: int = 32, val: bool = False, splits: Sequence[str] | None = None
) -> SliceCache:
    """Two slices per woman of one position, Siemens and GE; GE is the brighter one.

    Half of the women train; the others are for tests, or with ``val`` all but the last for validation; unless
    ``splits`` says for each what she is for.
    """
    halves = ["train" if w < women // 2 else "val" if val and w < women - 1 else "test" for w in range(women)]
    splits = splits or halves
    rng = np.random.default_rng(0)
    rows = [Row(2 * w + i, w, splits[w], f"{w}-0", iap) for w in range(women) for i, iap in enumerate((SIEMENS, GE))]
    anatomy = rng.random((women, size, size))
    clean = np.stack([anatomy[row.woman] * (1 + row.index % 2) for row in rows])
    folder.mkdir(parents=True)
    np.save(folder / "cleans.npy", clean.astype(np.float16))
    np.save(folder / "images.npy", (clean + rng.normal(0, 0.02, clean.shape)).astype(np.float16))
    np.save(folder / "labels.npy", np.stack([(anatomy[row.woman] * 3).astype(np.uint8) for row in rows]))
    index = {
        "format": FORMAT,
        "preprocessing": Preprocessing(size=size).to_dict(),
        "cohort": "0" * 64,
        "synthetic": True,
        "rows": [asdict(r) for r in rows],
    }
    (folder / "index.json").write_text(json.dumps(index))
    return open_cache(folder)
