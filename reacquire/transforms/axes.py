"""Which way an array lies: spatial axes of a training pipeline <-> stack of canonical axial slices.

Canonical is the view of ``reacquire.imaging``: rows run to posterior, columns to the left. Nothing is interpolated.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

AXIS_OF = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
POSITIVE = ("R", "A", "S")  # of the RAS+ affines that MONAI, TorchIO and NIfTI use
NEGATIVE = ("L", "P", "I")
CANONICAL = "PL"


@dataclass(frozen=True)
class Axes:
    """Letters of the directions in which the indices of a (R, C) or (.., .., ..) array grow, e.g. "PL" or "RAS".

    Raises
    ------
    ValueError
        For letters that are no orientation, or a plane that is not axial.
    """

    codes: str

    def __post_init__(self) -> None:
        axes = sorted(AXIS_OF.get(c, -1) for c in self.codes)
        if axes not in ([0, 1], [0, 1, 2]):
            raise ValueError(
                f"axes {self.codes!r} do not hold an axial slice: two letters out of R/L and A/P (a slice) or three "
                "with S/I (a volume) are needed"
            )

    @classmethod
    def of_affine(cls, affine: NDArray[Any], dimensions: int) -> "Axes":
        """The axes nearest to a RAS+ affine (4, 4) of an array with 2 or 3 spatial dimensions.

        The identity says nothing (it is what pipelines write when they do not know) and stands for the canonical view.
        """
        matrix = np.asarray(affine, dtype=np.float64)
        if np.array_equal(matrix, np.eye(len(matrix))):
            return cls(CANONICAL + "S"[: dimensions - 2])
        directions = matrix[:3, :dimensions] / np.linalg.norm(matrix[:3, :dimensions], axis=0)
        codes = [""] * dimensions
        for _ in range(dimensions):  # the best fitting pair first, so that oblique arrays get three different letters
            world, axis = np.unravel_index(np.abs(directions).argmax(), directions.shape)
            codes[axis] = (POSITIVE if directions[world, axis] > 0 else NEGATIVE)[world]
            directions[world], directions[:, axis] = 0, 0
        return cls("".join(codes))

    @property
    def _order(self) -> list[int]:
        """Array axes in the order slices, rows, columns (no slices for two letters)."""
        axes = [AXIS_OF[c] for c in self.codes]
        return [axes.index(a) for a in (2, 1, 0) if a in axes]

    @property
    def _flips(self) -> tuple[int, ...]:
        """Axes of the (slices, rows, columns) stack that run the wrong way; the order of slices does not matter."""
        return tuple(i for i, letter in ((-2, "A"), (-1, "R")) if letter in self.codes)

    def to_slices(self, array: NDArray[Any]) -> NDArray[Any]:
        """(.., ..[, ..]) -> (N, R, C), canonical and contiguous."""
        stack = np.transpose(array, self._order)
        stack = stack if stack.ndim == 3 else stack[None]
        return np.ascontiguousarray(np.flip(stack, self._flips))

    def from_slices(self, stack: NDArray[Any]) -> NDArray[Any]:
        """The exact inverse of ``to_slices``."""
        stack = np.flip(stack, self._flips)
        stack = stack if len(self.codes) == 3 else stack[0]
        return np.ascontiguousarray(np.transpose(stack, np.argsort(self._order)))
