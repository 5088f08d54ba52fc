"""Where results lie in the patient: all 48 ways to lay image axes and stacking direction along the patient's axes."""

import io
import itertools

import numpy as np
import pytest
from builders import make_mr, make_pixels, read_back
from pydicom import dcmread
from test_dicom_segmentation import ALGORITHM
from test_dicom_write import PROVENANCE

from reacquire.dicom import order_series, read_slice, write_counterfactual, write_segmentation
from reacquire.errors import SuitabilityError

AXES = np.eye(3)
ALL = [
    (sr * AXES[r], sc * AXES[c], direction)
    for r, c in itertools.permutations(range(3), 2)
    for sr, sc, direction in itertools.product((1.0, -1.0), repeat=3)
]
ACCEPTED = [(row, column, d) for row, column, d in ALL if row[2] == column[2] == 0]
REFUSED = [(row, column) for row, column, d in ALL if (row[2] or column[2]) and d > 0]
ORIGIN, SPACING, STEP = np.array([-100.123456, 30.654321, -12.333333]), (1.234567, 0.987654), 1.7654321
TOLERANCE_MM = 1e-4


def name(case) -> str:
    return " ".join("".join(f"{v:+.0f}" for v in np.atleast_1d(part)) for part in case)


def tilted(row: np.ndarray, column: np.ndarray, degrees: float = 3.7) -> tuple[np.ndarray, np.ndarray]:
    """The same axes turned about the patient's x axis, so that no direction cosine is a whole number."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return turn @ row, turn @ column


def position(row: np.ndarray, column: np.ndarray, number: int, direction: float) -> np.ndarray:
    return ORIGIN + number * STEP * direction * np.cross(row, column)


def make(row: np.ndarray, column: np.ndarray, number: int = 0, direction: float = 1.0) -> bytes:
    at = position(row, column, number, direction)
    return make_mr(
        SOPInstanceUID=f"1.2.3.4.{number + 1}",
        InstanceNumber=number + 1,
        ImageOrientationPatient=[f"{v:.12g}"[:16] for v in (*row, *column)],
        ImagePositionPatient=[f"{v:.12g}"[:16] for v in at],
        PixelSpacing=[str(s) for s in SPACING],
    )


def corners(iop, ipp, spacing, shape) -> np.ndarray:
    """Patient coordinates (mm) of the four corner pixels (PS3.3 C.7.6.2.1.1, equation 1)."""
    row, column = np.reshape(np.asarray(iop, float), (2, 3))
    ij = np.array([(i, j) for i in (0, shape[0] - 1) for j in (0, shape[1] - 1)], float)
    steps = ij[:, :1] * spacing[0] * column + ij[:, 1:] * spacing[1] * row
    return np.asarray(ipp, float) + steps


def test_there_are_48_ways():
    assert (len(ALL), len(ACCEPTED), 2 * len(REFUSED)) == (48, 16, 32)


@pytest.mark.parametrize("case", REFUSED, ids=name)
def test_slices_that_are_not_axial_are_refused_by_name(case):
    with pytest.raises(SuitabilityError) as caught:
        read_slice(make(*case))
    assert caught.value.code == "unsupported-orientation"


@pytest.mark.parametrize("tilt", [0.0, 3.7])
@pytest.mark.parametrize("case", ACCEPTED, ids=name)
def test_a_derived_image_lies_exactly_where_its_source_does(case, tilt):
    """Canonical edit -> stored -> file -> read: the marker stays on its pixel, the corners on their millimetre."""
    row, column = tilted(*case[:2], tilt)
    source = read_slice(make(row, column, direction=case[2]))
    canonical = source.canonical().astype(np.int32)
    canonical[4:9, 30:33] = 4000  # no symmetry of the rectangle maps it onto itself
    data = write_counterfactual(source, source.from_canonical(canonical), provenance=PROVENANCE)
    again = read_slice(data, allow_synthetic=True)
    assert np.array_equal(again.canonical(), canonical)
    ds = dcmread(io.BytesIO(data))
    found = corners(ds.ImageOrientationPatient, ds.ImagePositionPatient, ds.PixelSpacing, ds.pixel_array.shape)
    expected = corners((*row, *column), position(row, column, 0, 1), SPACING, make_pixels().shape)
    assert np.abs(found - expected).max() < TOLERANCE_MM


@pytest.mark.parametrize("tilt", [0.0, 3.7])
@pytest.mark.parametrize("case", ACCEPTED, ids=name)
def test_a_segmentation_lies_exactly_where_its_sources_do(case, tilt):
    """Each frame of the SEG, by its reference: the corners and the asymmetric marker of its slice."""
    direction = case[2]
    row, column = tilted(*case[:2], tilt)
    slices = [read_slice(make(row, column, n, direction)) for n in range(3)]
    slices = [slices[i] for i in order_series([s.header for s in slices])]
    masks = []
    for n, slice_ in enumerate(slices):
        canonical = np.zeros(slice_.canonical().shape, np.uint8)
        canonical[4 : 9 + n, 30:33] = 1
        canonical[4, 30] = 2
        masks.append(slice_.from_canonical(canonical))
    ds = read_back(write_segmentation(slices, np.stack(masks), algorithm=ALGORITHM))
    frames = ds.pixel_array
    shared = ds.SharedFunctionalGroupsSequence[0]
    uids = {s.header.sop_instance_uid: n for n, s in enumerate(slices)}
    seen = set()
    for frame, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        n, label = uids[reference], groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        seen.add((n, label))
        assert np.array_equal(frame, masks[n] == label)
        measures = shared.PixelMeasuresSequence[0].PixelSpacing
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        found = corners(orientation, groups.PlanePositionSequence[0].ImagePositionPatient, measures, frame.shape)
        number = int(reference.rsplit(".", 1)[1]) - 1
        expected = corners((*row, *column), position(row, column, number, direction), SPACING, frame.shape)
        assert np.abs(found - expected).max() < TOLERANCE_MM
    assert seen == {(n, label) for n in range(3) for label in (1, 2)}
