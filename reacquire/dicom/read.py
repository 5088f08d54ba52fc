"""Bytes of one classic MR file -> ``SliceImage``: header, acquisition parameters, pixels in real values.

Orientation stays as stored; ``SliceImage.canonical`` turns it. No resampling here (``reacquire.imaging``).
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reacquire.dicom import values
from reacquire.dicom.checks import StoredFormat
from reacquire.dicom.decode import decode
from reacquire.dicom.header import Header, open_slice
from reacquire.dicom.limits import DEFAULT, Limits
from reacquire.errors import DatasetError, PixelError
from reacquire.imaging.geometry import Orientation


@dataclass(frozen=True)
class SliceImage:
    """One slice.

    Attributes
    ----------
    header : Header
        Everything but the pixels.
    pixels : (R, C) float32
        Stored orientation; rescaled, and inverted where the file is MONOCHROME1. Whole numbers unless the slope is not.
    """

    header: Header
    pixels: NDArray[np.float32] = field(repr=False)

    @property
    def iap(self) -> dict[str, str | float]:
        """Acquisition parameters of the header by keyword, as read (see ``Header.iap``)."""
        return self.header.iap

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was tolerated, free of header values."""
        return self.header.warnings

    @property
    def orientation(self) -> Orientation:
        """How to turn the stored pixels into the canonical view."""
        return Orientation.of(self.header.geometry.iop)

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Distance of rows, distance of columns, in stored orientation."""
        rows, columns = self.header.geometry.spacing
        return rows, columns

    @property
    def slice_spacing_mm(self) -> float:
        """Distance to the next slice: SpacingBetweenSlices, else the thickness.

        Raises
        ------
        DatasetError
            ``missing-geometry`` when the header has neither.
        """
        spacing = values.positive(self.header.dataset, "SpacingBetweenSlices") or self.iap.get("SliceThickness")
        if spacing is None:
            raise DatasetError(
                "SpacingBetweenSlices and SliceThickness are both absent",
                code="missing-geometry",
                where="SliceThickness",
            )
        return float(spacing)

    @property
    def stored_range(self) -> tuple[int, int]:
        """Smallest and largest value that a result on this grid may take.

        The range of the stored integers after the rescale; from 0 where the source has no negative pixel, because a
        magnitude image stored as signed must not become negative.
        """
        low, high = rescaled_range(self.header.stored)
        return (max(low, 0) if float(self.pixels.min()) >= 0 else low), high

    def canonical(self) -> NDArray[np.float32]:
        """``pixels`` with columns to the patient's left and rows to posterior, (R, C) or (C, R)."""
        return self.orientation.to_canonical(self.pixels)

    def from_canonical(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """An array of the canonical view, ``(..., R, C)``, in this slice's stored orientation."""
        return self.orientation.from_canonical(pixels)


def rescaled_range(stored: StoredFormat) -> tuple[int, int]:
    """The range of the stored integers after the rescale, widened to whole numbers."""
    low, high = (v * stored.slope + stored.intercept for v in stored.range)
    return math.floor(low), math.ceil(high)


def read_slice(data: bytes, *, allow_synthetic: bool = False, limits: Limits = DEFAULT) -> SliceImage:
    """Read one DICOM file.

    Parameters
    ----------
    data : bytes
        A whole Part 10 file in one of ``syntaxes.SYNTAXES``.
    allow_synthetic : bool
        Accept an image that is marked as synthetic.

    Raises
    ------
    InputError
        Of the kind and with the code of the first rule that the file breaks.
    """
    opened = open_slice(data, allow_synthetic=allow_synthetic, limits=limits)
    stored = opened.header.stored
    words = decode(opened)
    if int(words.min()) == int(words.max()):
        raise PixelError("all pixels are equal; send a slice with tissue", code="degenerate-image", where="PixelData")
    if stored.inverted:
        words = sum(stored.range) - words
    pixels = words.astype(np.float32)
    if (stored.slope, stored.intercept) != (1.0, 0.0):
        pixels = (words * stored.slope + stored.intercept).astype(np.float32)
    return SliceImage(opened.header, pixels)
