"""In-plane orientation: stored pixels to the canonical axial view and back, by exact flips and transposition.

Canonical means that columns run to the patient's left (+x of LPS) and rows to posterior (+y), the orientation
(1, 0, 0, 0, 1, 0). Nothing is interpolated here, and no slice is refused: ``reacquire.dicom`` does that with
``tilt_degrees``. Free of torch, because the API process imports it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Orientation:
    """How the stored pixels must be moved to be canonical: transpose first, then flip.

    Attributes
    ----------
    swap : bool
        Stored columns run along the patient's y axis.
    flip_rows, flip_columns : bool
        The rows (columns) of the transposed image run to anterior (to the right).
    """

    swap: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def of(cls, iop: Sequence[float]) -> "Orientation":
        """The orientation behind ImageOrientationPatient (PS3.3 C.7.6.2.1.1).

        Parameters
        ----------
        iop : sequence of 6 floats
            Direction cosines of increasing column index, then of increasing row index, in LPS.
        """
        along_row, along_column = _cosines(iop)
        swap = bool(abs(along_row[1]) > abs(along_row[0]))
        to_left, to_posterior = (along_column[0], along_row[1]) if swap else (along_row[0], along_column[1])
        return cls(swap=swap, flip_rows=bool(to_posterior < 0), flip_columns=bool(to_left < 0))

    def to_canonical(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Stored ``(..., R, C)`` -> canonical, a contiguous copy of the same type."""
        if self.swap:
            pixels = np.swapaxes(pixels, -1, -2)
        return np.ascontiguousarray(self._flip(pixels))  # torch refuses negative strides

    def from_canonical(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Canonical ``(..., R, C)`` -> stored: the exact inverse of ``to_canonical``."""
        pixels = self._flip(pixels)
        return np.ascontiguousarray(np.swapaxes(pixels, -1, -2) if self.swap else pixels)

    def _flip(self, pixels: NDArray[Any]) -> NDArray[Any]:
        rows = slice(None, None, -1 if self.flip_rows else 1)
        columns = slice(None, None, -1 if self.flip_columns else 1)
        return pixels[..., rows, columns]


def to_canonical(pixels: NDArray[Any], iop: Sequence[float]) -> NDArray[Any]:
    """Stored pixels ``(..., R, C)`` in the canonical axial view (see ``Orientation``)."""
    return Orientation.of(iop).to_canonical(pixels)


def from_canonical(pixels: NDArray[Any], iop: Sequence[float]) -> NDArray[Any]:
    """Canonical pixels ``(..., R, C)`` back in the stored orientation of ``iop``."""
    return Orientation.of(iop).from_canonical(pixels)


def tilt_degrees(iop: Sequence[float]) -> float:
    """The angle between the image axes and the nearest pair of in-plane patient axes (0 for a straight axial slice).

    Returns
    -------
    float
        The larger angle of the two image axes, degrees; 90 for sagittal and coronal slices.
    """
    along_row, along_column = _cosines(iop)
    straight = min(abs(along_row[0]), abs(along_column[1]))
    swapped = min(abs(along_row[1]), abs(along_column[0]))
    return float(np.degrees(np.arccos(np.clip(max(straight, swapped), 0.0, 1.0))))


def _cosines(iop: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    vectors = np.asarray(iop, dtype=np.float64).reshape(2, 3)
    return vectors[0], vectors[1]
