"""Which noise a slice gets: a function of the user's seed, the series and where the slice lies, of nothing else."""

import hashlib

from reacquire.dicom import SliceImage, height_mm
from reacquire.diffusion import SliceSeed, derive_seed
from reacquire.errors import DatasetError

UNKNOWN_SPACING_MM = 1.0  # below any breast protocol's: neighbours then share less noise than they could


def slice_seed(seed: int, slice_: SliceImage, sample: int = 0) -> SliceSeed:
    """The seed of one slice, the same alone, in its series, and in any batch.

    Parameters
    ----------
    seed : int
        The job's. Another series has other noise under it.
    sample : int
        Number of the draw when several are asked for; 0 is what a job without samples gets.
    """
    identity = hashlib.sha256(slice_.header.series_key.encode()).digest()
    of_series = derive_seed(seed, int.from_bytes(identity[:8], "big"), *([sample] if sample else []))
    try:
        spacing_mm = slice_.slice_spacing_mm
    except DatasetError:
        spacing_mm = UNKNOWN_SPACING_MM
    return SliceSeed(of_series, height_mm(slice_.header, slice_.header) / spacing_mm)
