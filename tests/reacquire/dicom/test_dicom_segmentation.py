"""The SEG: labels come back where they belong, in every orientation, with honest names and no stray header values."""

import io
import itertools

import numpy as np
import pytest
from builders import ABSENT, SECRET, make_mr, make_series, read_back
from enhanced import make_enhanced
from pydicom import dcmread

from reacquire.dicom import read_slice, unpack, write_segmentation
from reacquire.errors import DatasetError

ALGORITHM = ("Reacquire phantom-v0", "1.0.0+abababababab")


def make_labels(count: int, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    """An asymmetric marker per slice, moving with the slice."""
    labels = np.zeros((count, *shape), np.uint8)
    for n in range(count):
        labels[n, 3 + n : 20, 5:11] = 1
        labels[n, 4 + n : 9, 5:7] = 2
    return labels


def labels_by_source(data: bytes, uids: list[str]) -> np.ndarray:
    import highdicom as hd

    seg = hd.seg.segread(io.BytesIO(data))
    return seg.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_labels_come_back_for_each_source_whatever_the_order(order):
    slices = [read_slice(data) for data in make_series(3)]
    labels = make_labels(3)
    data = write_segmentation([slices[i] for i in order], labels[list(order)], algorithm=ALGORITHM)
    assert np.array_equal(labels_by_source(data, [s.header.sop_instance_uid for s in slices]), labels)


@pytest.mark.parametrize(("a", "b", "swap"), list(itertools.product(("1", "-1"), ("1", "-1"), (False, True))))
def test_a_marker_stays_in_place_in_every_orientation(a, b, swap):
    """Canonical mask -> stored -> SEG: its frame carries the source's orientation and the stored marker."""
    iop = ["0", a, "0", b, "0", "0"] if swap else [a, "0", "0", "0", b, "0"]
    source = read_slice(make_mr(ImageOrientationPatient=iop))
    canonical = make_labels(1, source.canonical().shape)[0]
    stored = source.from_canonical(canonical)
    ds = dcmread(io.BytesIO(write_segmentation([source], stored[None], algorithm=ALGORITHM)))
    orientation = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    assert [float(v) for v in orientation] == [float(v) for v in iop]
    assert np.array_equal(labels_by_source(ds_bytes(ds), ["1.2.3.4.1"])[0], stored)


def ds_bytes(ds) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


def test_it_is_a_binary_seg_with_honest_names():
    ds = read_back(write_segmentation([read_slice(make_mr())], make_labels(1), algorithm=ALGORITHM))
    assert (ds.SOPClassUID, ds.Modality, ds.SegmentationType) == ("1.2.840.10008.5.1.4.1.1.66.4", "SEG", "BINARY")
    labels = [s.SegmentLabel for s in ds.SegmentSequence]
    assert labels == ["Breast, non-FGT (mainly fat)", "Fibroglandular tissue"]
    types = [s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in ds.SegmentSequence]
    assert types == ["55603005", "91772007"]
    assert {s.AnatomicRegionSequence[0].CodeValue for s in ds.SegmentSequence} == {"76752008"}
    assert (ds.ContentLabel, ds.ContentQualification, ds.SeriesNumber) == ("FAT_FGT", "RESEARCH", 8007)
    assert ds.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == ALGORITHM[0]


def test_a_label_map_holds_the_labels_themselves():
    slices, labels = [read_slice(data) for data in make_series(3)], make_labels(3)
    data = write_segmentation(slices, labels, algorithm=ALGORITHM, segmentation_type="labelmap")
    ds = read_back(data)
    assert (ds.SOPClassUID, ds.SegmentationType) == ("1.2.840.10008.5.1.4.1.1.66.7", "LABELMAP")
    assert np.array_equal(labels_by_source(data, [s.header.sop_instance_uid for s in slices]), labels)


def test_a_fractional_segmentation_holds_probabilities():
    import highdicom as hd

    slices = [read_slice(data) for data in make_series(2)]
    scores = np.random.default_rng(0).random((2, 48, 64, 3), np.float32)
    probabilities = (scores / scores.sum(-1, keepdims=True))[..., 1:]
    data = write_segmentation(slices, probabilities, algorithm=ALGORITHM, segmentation_type="fractional")
    ds = read_back(data)
    assert (ds.SegmentationType, ds.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert ds.MaximumFractionalValue == 255
    seg = hd.seg.segread(io.BytesIO(data))
    found = seg.get_pixels_by_source_instance([s.header.sop_instance_uid for s in slices])
    assert np.abs(found - probabilities).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("layout", ["philips", "siemens"])
def test_frames_of_an_enhanced_source_are_named_by_number(layout):
    slices = [read_slice(data) for data in unpack(make_enhanced(layout, 3))]
    labels = make_labels(3)
    ds = read_back(write_segmentation(slices, labels, algorithm=ALGORITHM))
    references = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert [r.ReferencedSOPInstanceUID for r in references] == [slices[0].header.origin.instance_uid]
    assert "ReferencedFrameNumber" not in references[0]
    frames = {s.header.origin.frame: n for n, s in enumerate(slices)}
    for frame, groups in zip(ds.pixel_array, ds.PerFrameFunctionalGroupsSequence, strict=True):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.4.1"
        label = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert np.array_equal(frame, labels[frames[source.ReferencedFrameNumber]] == label)


def test_frames_are_sorted_by_position_so_references_tell_where_they_belong():
    """Against ascending InstanceNumber, as the real Aera series is numbered."""
    slices = [read_slice(data) for data in make_series(3, spacing_mm=-2.0)]
    labels = make_labels(3)
    ds = read_back(write_segmentation(slices, labels, algorithm=ALGORITHM))
    groups = ds.PerFrameFunctionalGroupsSequence
    order = [g.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID[-1] for g in groups]
    heights = [g.PlanePositionSequence[0].ImagePositionPatient[2] for g in groups]
    assert order != sorted(order) or heights != sorted(heights)
    for frame, group in zip(ds.pixel_array, groups, strict=True):
        n = int(group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID[-1]) - 1
        assert np.array_equal(frame, labels[n] == group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def test_patient_and_study_are_those_of_the_source_and_nothing_else_identifies():
    source = make_mr(InstitutionName=SECRET, OperatorsName=f"{SECRET}^Op")
    ds = read_back(write_segmentation([read_slice(source)], make_labels(1), algorithm=ALGORITHM))
    original = read_back(source)
    copied = {"PatientName", "PatientID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"}
    for keyword in (*copied, "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate", "PatientBirthDate"):
        assert ds[keyword].value == original[keyword].value
    assert {e.keyword for e in ds.iterall() if SECRET in str(e.value) and e.VR != "SQ"} == copied


@pytest.mark.parametrize("keyword", ["PatientSex", "StudyID", "StudyDate", "AccessionNumber", "SliceThickness"])
def test_a_source_without_a_type_2_attribute_is_served(keyword):
    source = read_slice(make_mr(**{keyword: ABSENT}))
    ds = read_back(write_segmentation([source], make_labels(1), algorithm=ALGORITHM))
    assert ds.Modality == "SEG"


def test_a_source_with_an_odd_slice_spacing_is_served():
    source = read_slice(make_mr(SpacingBetweenSlices=b"2,5 "))
    ds = read_back(write_segmentation([source], make_labels(1), algorithm=ALGORITHM))
    assert "SpacingBetweenSlices" not in ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]


def test_it_is_marked_synthetic_when_its_source_is():
    synthetic = read_slice(make_mr(SyntheticData="YES"), allow_synthetic=True)
    assert read_back(write_segmentation([synthetic], make_labels(1), algorithm=ALGORITHM)).SyntheticData == "YES"
    assert "SyntheticData" not in read_back(
        write_segmentation([read_slice(make_mr())], make_labels(1), algorithm=ALGORITHM)
    )


def test_an_empty_segmentation_is_written_with_all_frames():
    slices = [read_slice(data) for data in make_series(2)]
    data = write_segmentation(slices, np.zeros((2, 48, 64), np.uint8), algorithm=ALGORITHM)
    assert dcmread(io.BytesIO(data)).pixel_array.sum() == 0


def test_the_same_labels_give_the_same_uid():
    source = [read_slice(make_mr())]
    uids = [
        dcmread(io.BytesIO(write_segmentation(source, labels, algorithm=ALGORITHM))).SOPInstanceUID
        for labels in (make_labels(1), make_labels(1), make_labels(1)[:, ::-1].copy())
    ]
    assert uids[0] == uids[1] != uids[2]


def test_the_order_of_the_slices_is_no_part_of_the_identity():
    slices, labels = [read_slice(data) for data in make_series(2)], make_labels(2)
    one = write_segmentation(slices, labels, algorithm=ALGORITHM)
    other = write_segmentation(slices[::-1], labels[::-1], algorithm=ALGORITHM)
    assert read_back(one).SOPInstanceUID == read_back(other).SOPInstanceUID


def test_loss_of_compression_is_inherited():
    lossy = read_slice(make_mr(LossyImageCompression="01", LossyImageCompressionRatio="9"))
    ds = read_back(write_segmentation([lossy], make_labels(1), algorithm=ALGORITHM))
    assert (ds.LossyImageCompression, ds.LossyImageCompressionRatio) == ("01", 9)


def test_slices_of_two_series_or_one_slice_twice_are_refused():
    one, other = make_mr(), make_mr(SeriesInstanceUID="1.2.3.9", SOPInstanceUID="1.2.3.4.9")
    for files in ((one, other), (one, one)):
        with pytest.raises(DatasetError) as caught:
            write_segmentation([read_slice(f) for f in files], make_labels(2), algorithm=ALGORITHM)
        assert caught.value.code == "inconsistent-series"


@pytest.mark.parametrize(
    "labels", [np.zeros((1, 48, 64), np.int64), np.zeros((1, 64, 48), np.uint8), np.full((1, 48, 64), 3, np.uint8)]
)
def test_labels_that_do_not_fit_are_the_callers_mistake(labels):
    with pytest.raises(ValueError, match="labels must"):
        write_segmentation([read_slice(make_mr())], labels, algorithm=ALGORITHM)


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((1, 48, 64), np.uint8),
        np.zeros((1, 48, 64, 3), np.float32),
        np.full((1, 48, 64, 2), np.nan, np.float32),
    ],
)
def test_probabilities_that_do_not_fit_are_the_callers_mistake(mask):
    with pytest.raises(ValueError, match="probabilities must"):
        write_segmentation([read_slice(make_mr())], mask, algorithm=ALGORITHM, segmentation_type="fractional")
