"""Orientation is exact flips and transposition, invertible for every axial sign combination."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from reacquire.imaging import from_canonical, tilt_degrees, to_canonical

SIGNS = (1.0, -1.0)
STRAIGHT = [(a, 0.0, 0.0, 0.0, b, 0.0) for a, b in itertools.product(SIGNS, SIGNS)]
SWAPPED = [(0.0, a, 0.0, b, 0.0, 0.0) for a, b in itertools.product(SIGNS, SIGNS)]


def stored_from_patient(iop: tuple[float, ...], shape: tuple[int, int]) -> np.ndarray:
    """An image whose pixel value is 100 x (mm to the left) + (mm to posterior), as a scanner with ``iop`` stores it."""
    row, column = np.mgrid[: shape[0], : shape[1]]
    position = row[..., None] * np.array(iop[3:]) + column[..., None] * np.array(iop[:3])
    return 100 * position[..., 0] + position[..., 1]


@pytest.mark.parametrize("iop", STRAIGHT + SWAPPED)
def test_canonical_rows_run_to_posterior_and_columns_to_the_left(iop):
    canonical = to_canonical(stored_from_patient(iop, (5, 7)), iop)
    assert (np.diff(canonical, axis=0) == 1).all()
    assert (np.diff(canonical, axis=1) == 100).all()


@given(
    st.sampled_from(STRAIGHT + SWAPPED),
    array_shapes(min_dims=2, max_dims=4, max_side=6).flatmap(lambda shape: arrays(np.int16, shape)),
)
def test_from_canonical_inverts_exactly(iop, pixels):
    assert np.array_equal(from_canonical(to_canonical(pixels, iop), iop), pixels)


@pytest.mark.parametrize("iop", STRAIGHT + SWAPPED)
def test_results_have_positive_strides(iop):
    canonical = to_canonical(np.zeros((4, 5), np.float32), iop)
    assert min(canonical.strides) > 0
    assert min(from_canonical(canonical, iop).strides) > 0


@pytest.mark.parametrize("iop", STRAIGHT + SWAPPED)
@pytest.mark.parametrize("degrees", [0.0, 3.0, 9.9, 30.0])
def test_tilt_is_the_angle_to_the_nearest_axis(iop, degrees):
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turned = np.concatenate([turn @ iop[:3], turn @ iop[3:]])
    assert tilt_degrees(turned) == pytest.approx(degrees, abs=1e-5)


@pytest.mark.parametrize("iop", [(0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (1, 0, 0, 0, 0.8, 0.6)])
def test_tilt_of_sagittal_coronal_and_oblique_slices_is_large(iop):
    assert tilt_degrees(iop) > 30
