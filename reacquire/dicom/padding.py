"""Pixels outside the image: what PixelPaddingValue marks (PS3.3 C.7.5.1.1.2), and whether a result still has them.

Padding holds no tissue, so an edit leaves it alone; the attribute is written only when that succeeded.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from reacquire.dicom import values
from reacquire.dicom.header import Header
from reacquire.dicom.read import SliceImage


def padding_range(header: Header) -> tuple[int, int] | None:
    """Smallest and largest padding value in the unit of ``SliceImage.pixels``, None without padding.

    None as well when the rescale makes it a fraction, which whole pixels cannot hold.
    """
    stored = header.stored
    one = _word(header.dataset, "PixelPaddingValue", signed=stored.signed)
    if one is None:
        return None
    other = _word(header.dataset, "PixelPaddingRangeLimit", signed=stored.signed)
    ends = [one, one if other is None else other]
    if stored.inverted:
        ends = [sum(stored.range) - end for end in ends]
    low, high = sorted(end * stored.slope + stored.intercept for end in ends)
    return (int(low), int(high)) if low.is_integer() and high.is_integer() else None


def padding_mask(source: SliceImage) -> NDArray[np.bool_]:
    """Which pixels (R, C) of the source, in stored orientation, are padding."""
    limits = padding_range(source.header)
    if limits is None:
        return np.zeros(source.pixels.shape, dtype=np.bool_)
    return (source.pixels >= limits[0]) & (source.pixels <= limits[1])


def keep_padding(source: SliceImage, pixels: NDArray[Any]) -> NDArray[Any]:
    """``pixels`` (R, C) in stored orientation with the source's own values where it is padded."""
    mask = padding_mask(source)
    return np.where(mask, source.pixels.astype(pixels.dtype), pixels) if mask.any() else pixels


def padding_kept(source: SliceImage, pixels: NDArray[Any]) -> bool:
    """Whether the padding values of the source mark the same pixels in ``pixels``."""
    limits = padding_range(source.header)
    if limits is None:
        return False
    return bool(np.array_equal((pixels >= limits[0]) & (pixels <= limits[1]), padding_mask(source)))


def _word(ds: Dataset, keyword: str, *, signed: bool) -> int | None:
    """A binary US or SS value; which of the two only PixelRepresentation says."""
    word = values.unsigned(ds, keyword)
    return word - 0x10000 if signed and word is not None and word > 0x7FFF else word
