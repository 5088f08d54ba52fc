"""All 48 signed permutations of the axes: 8 + 8 are axial and exact, the others are refused by name."""

from itertools import permutations, product

import numpy as np
import pytest
from builders import make_mr, make_pixels

from reacquire.dicom import read_slice
from reacquire.errors import SuitabilityError
from reacquire.imaging.geometry import Orientation, tilt_degrees

SPACING, ORIGIN = (1.25, 1.5), np.array([-100.5, -90.25, 12.5])
# Rows, columns and normal along +-x, +-y, +-z in any order; the normal's sign is the handedness of the slice stack.
FRAMES = [
    np.array([[sign if axis == place else 0 for axis in range(3)] for place, sign in zip(order, signs, strict=True)])
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def name(frame: np.ndarray) -> str:
    return " ".join("-+"[int(v.sum() > 0)] + "xyz"[int(np.abs(v).argmax())] for v in frame)


def read(frame: np.ndarray):
    iop = [str(v) for v in (*frame[0], *frame[1])]
    return read_slice(make_mr(ImageOrientationPatient=iop, PixelSpacing=[str(s) for s in SPACING]))


def position(image, row: int, column: int) -> np.ndarray:
    """Millimetres of a stored pixel (PS3.3 C.7.6.2.1.1)."""
    iop, (dr, dc) = image.header.geometry.iop, image.header.geometry.spacing
    return np.array(image.header.geometry.ipp) + np.array(iop[:3]) * dc * column + np.array(iop[3:]) * dr * row


def test_there_are_48_and_16_of_them_are_axial():
    assert len({name(frame) for frame in FRAMES}) == 48
    assert sum(tilt_degrees(frame[:2].ravel()) < 10 for frame in FRAMES) == 16


@pytest.mark.parametrize("frame", [f for f in FRAMES if f[2, 2] == 0], ids=name)
def test_other_planes_are_refused_by_name(frame):
    with pytest.raises(SuitabilityError) as caught:
        read(frame)
    assert caught.value.code == "unsupported-orientation"


@pytest.mark.parametrize("frame", [f for f in FRAMES if f[2, 2]], ids=name)
def test_axial_slices_turn_to_the_canonical_view_and_back_exactly(frame):
    image = read(frame)
    canonical = image.canonical()
    assert np.array_equal(image.from_canonical(canonical), image.pixels)
    # every canonical pixel lies where its stored pixel lies: columns run to +x, rows to +y
    rows, columns = np.indices(image.pixels.shape)
    x, y = (
        image.orientation.to_canonical(values)
        for values in (
            ORIGIN[0] + frame[0, 0] * SPACING[1] * columns + frame[1, 0] * SPACING[0] * rows,
            ORIGIN[1] + frame[0, 1] * SPACING[1] * columns + frame[1, 1] * SPACING[0] * rows,
        )
    )
    assert np.all(np.diff(x, axis=1) > 0)
    assert np.ptp(x, axis=0).max() < 1e-4
    assert np.all(np.diff(y, axis=0) > 0)
    assert np.ptp(y, axis=1).max() < 1e-4


@pytest.mark.parametrize("frame", [f for f in FRAMES if f[2, 2]], ids=name)
def test_positions_are_exact(frame):
    image = read(frame)
    for row, column in ((0, 0), (0, 63), (47, 0), (47, 63)):
        expected = ORIGIN + frame[0] * SPACING[1] * column + frame[1] * SPACING[0] * row
        assert np.abs(position(image, row, column) - expected).max() < 1e-4


@pytest.mark.parametrize("frame", FRAMES, ids=name)
def test_the_arithmetic_is_its_own_inverse_for_every_frame(frame):
    orientation = Orientation.of(frame[:2].ravel())
    pixels = make_pixels()
    assert np.array_equal(orientation.from_canonical(orientation.to_canonical(pixels)), pixels)
