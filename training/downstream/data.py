"""Who trains, who chooses and who tests in one direction; the cohort's own splits decide, nothing is drawn here."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.cache import Row, SliceCache, Split

# Manufacturer of the vocabulary -> what the tables call it
VENDORS: Mapping[str, str] = {"GE MEDICAL SYSTEMS": "GE", "SIEMENS": "Siemens"}


class DownstreamError(Exception):
    """One message that names the cohort, folder or option and the remedy; finished cells are kept."""


@dataclass(frozen=True)
class Direction:
    """Slices with known tissues of the vendor that is trained on, and test slices by vendor (names of ``VENDORS``).

    ``foreign`` are the training women's slices of the other vendor: their pixels serve histogram matching, nobody's
    masks among them are used.
    """

    vendor: str
    other: str
    train: tuple[Row, ...]
    val: tuple[Row, ...]
    foreign: tuple[Row, ...]
    test: Mapping[str, tuple[Row, ...]]

    @property
    def maker(self) -> str:
        """The Manufacturer of the other vendor."""
        return next(maker for maker, name in VENDORS.items() if name == self.other)


def validation_split(cache: SliceCache) -> Split:
    """Whose women choose the weights: those of the test where a cohort has no others with masks, as in the paper."""
    return "val" if cache.split("val", masked=True) else "test"


def directions(cache: SliceCache) -> tuple[Direction, ...]:
    """Both directions.

    Raises
    ------
    DownstreamError
        When a vendor lacks slices with masks to train, validate or test on.
    """
    names, validation = tuple(VENDORS.values()), validation_split(cache)
    test = {name: _rows(cache, "test", name) for name in names}
    found = tuple(
        Direction(
            vendor,
            other,
            _rows(cache, "train", vendor),
            _rows(cache, validation, vendor),
            _rows(cache, "train", other, masked=False),
            test,
        )
        for vendor, other in (names, names[::-1])
    )
    for direction in found:
        for what, rows in (
            ("training", direction.train),
            ("validation", direction.val),
            ("test", test[direction.vendor]),
        ):
            if not rows:
                raise DownstreamError(
                    f"no {what} slice of {direction.vendor} with a mask: the experiment needs both vendors and masks "
                    "in train, val and test (ingest with --masks, split --mode default, or more women)"
                )
    return found


def _rows(cache: SliceCache, split: Split, vendor: str, *, masked: bool = True) -> tuple[Row, ...]:
    rows = cache.split(split, masked=masked)
    return tuple(row for row in rows if VENDORS.get(str(row.iap.get("Manufacturer"))) == vendor)


def training_cache(cache: SliceCache, rows: tuple[Row, ...], copies: NDArray[np.float16] | None = None) -> SliceCache:
    """A cache of these slices alone, and of their copies (K * N, S, S), which have the labels of the originals."""
    indices = [row.index for row in rows]
    images, labels = np.asarray(cache.images[indices]), np.asarray(cache.labels[indices])
    times = 1
    if copies is not None:
        times += len(copies) // len(rows)
        images, labels = np.concatenate([images, copies]), np.concatenate([labels] * times)
    renumbered = tuple(replace(row, index=i) for i, row in enumerate(rows * times))
    return replace(cache, rows=renumbered, images=images, labels=labels, cleans=None)
