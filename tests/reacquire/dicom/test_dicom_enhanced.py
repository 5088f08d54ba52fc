"""Enhanced multi-frame MR: N frames are N slices for all later code, whatever the vendor's layout."""

import struct

import numpy as np
import pytest
from builders import (
    ABSENT,
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    J2K,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    RLE,
    SECRET,
    make_mr,
    to_bytes,
)
from enhanced import enhanced_dataset, frame_pixels, make_enhanced
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from test_dicom_archive import make_zip

from reacquire.dicom import Limits, inspect, order_series, read_slice, unpack
from reacquire.dicom.frames import ENHANCED_MR
from reacquire.errors import ReacquireError

LAYOUT_NAMES = ("philips", "siemens", "canon")


def refusal(data: bytes, **limits: int) -> ReacquireError:
    with pytest.raises(ReacquireError) as caught:
        members = unpack(data, limits=Limits(**limits))
        order_series([read_slice(member).header for member in members])
    return caught.value


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_every_frame_becomes_a_slice_with_the_parameters_of_its_groups(layout):
    members = unpack(make_enhanced(layout))
    images = [read_slice(member) for member in members]
    assert order_series([image.header for image in images]) == [0, 1, 2]
    for number, image in enumerate(images):
        assert np.array_equal(image.pixels, frame_pixels(number))
        assert image.header.geometry.ipp == (-100.5, -90.25, 12.5 + 2 * number)
        assert image.header.geometry.spacing == (1.25, 1.5)
        assert image.slice_spacing_mm == 2
        numbers = {k: v for k, v in image.iap.items() if k not in ("Manufacturer", "ManufacturerModelName")}
        expected = {"EchoTime": 1.42, "RepetitionTime": 4.05, "FlipAngle": 10.0, "SliceThickness": 1.1}
        expected |= {"ScanOptions": "FS"} | ({} if layout == "canon" else {"MagneticFieldStrength": 2.8936})
        assert numbers == expected


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_each_slice_names_the_frame_that_it_is(layout):
    headers = [inspect(member) for member in unpack(make_enhanced(layout))]
    assert [(h.origin.class_uid, h.origin.instance_uid, h.origin.frame) for h in headers] == [
        (ENHANCED_MR, "1.2.3.4.1", n) for n in (1, 2, 3)
    ]
    assert len({h.sop_instance_uid for h in headers}) == 3
    assert {h.series_key for h in headers} == {"1.2.3.3"}


def test_a_classic_slice_is_its_own_origin():
    origin = inspect(make_mr()).origin
    assert (origin.class_uid, origin.instance_uid, origin.frame) == ("1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.1", None)


def test_each_parameter_tells_the_group_it_came_from():
    sources = inspect(unpack(make_enhanced("philips"))[0]).parameter_sources
    assert sources["EchoTime"] == "PerFrame:MREchoSequence"
    assert sources["RepetitionTime"] == "Shared:MRTimingAndRelatedParametersSequence"
    assert sources["MagneticFieldStrength"] == sources["ScanOptions"] == "attribute"
    assert inspect(unpack(make_enhanced("siemens"))[0]).parameter_sources["ScanOptions"] == (
        "SpectrallySelectedSuppression"
    )
    assert inspect(unpack(make_enhanced("canon"))[0]).parameter_sources["MagneticFieldStrength"] == "absent"


def test_a_file_without_fat_suppression_has_unknown_scan_options():
    header = inspect(unpack(make_enhanced(SpectrallySelectedSuppression="NONE"))[0])
    assert "ScanOptions" not in header.iap
    assert header.parameter_sources["ScanOptions"] == "absent"


def test_shared_groups_come_before_those_of_the_frame():
    data = make_enhanced(shared={"MREchoSequence": {"EffectiveEchoTime": 2.5}})
    assert inspect(unpack(data)[0]).iap["EchoTime"] == 2.5


def test_a_shared_group_that_lacks_the_value_does_not_hide_the_frame():
    data = make_enhanced(shared={"MREchoSequence": {}})
    assert inspect(unpack(data)[0]).iap["EchoTime"] == 1.42


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN, RLE, JPEG_LOSSLESS_SV1, JPEG_LS, J2K])
def test_frames_of_every_syntax_are_moved_over_bit_for_bit(syntax):
    members = unpack(make_enhanced(syntax=syntax))
    for number, member in enumerate(members):
        image = read_slice(member)
        assert np.array_equal(image.pixels, frame_pixels(number))
        assert image.iap["EchoTime"] == 1.42


def test_frames_split_over_fragments_are_told_apart_by_the_offset_table():
    from pydicom.encaps import encapsulate

    ds = enhanced_dataset()
    whole = make_enhanced(syntax=RLE)
    streams = [read_fragment(member) for member in unpack(whole)]
    ds["PixelData"].value, ds["PixelData"].VR = encapsulate(streams, fragments_per_frame=2, has_bot=True), "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = RLE
    for number, member in enumerate(unpack(to_bytes(ds))):
        assert np.array_equal(read_slice(member).pixels, frame_pixels(number))


def read_fragment(member: bytes) -> bytes:
    at = member.rindex(b"\xfe\xff\x00\xe0", 0, member.rindex(b"\x02\0\0\0\x40\0\0\0"))
    length = struct.unpack_from("<L", member, at + 4)[0]
    return member[at + 8 : at + 8 + length]


def test_the_same_file_gives_the_same_slices():
    assert unpack(make_enhanced()) == unpack(make_enhanced())


def test_signed_frames_keep_their_sign_and_rescale_is_per_frame():
    rescale = {"PixelValueTransformationSequence": {"RescaleSlope": 2, "RescaleIntercept": -7}}
    image = read_slice(unpack(make_enhanced("philips", frame=rescale))[1])
    assert np.array_equal(image.pixels, frame_pixels(1) * np.float32(2) - 7)


def test_a_zip_may_hold_enhanced_files():
    assert len(unpack(make_zip({"a": make_enhanced(), "b": make_mr()}))) == 4


def test_one_enhanced_file_sent_twice_is_one_series():
    members = unpack(make_zip({"a": make_enhanced(), "b": make_enhanced()}))
    assert order_series([inspect(member) for member in members]) == [0, 1, 2]


def test_the_coded_breast_is_a_body_part():
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "76752008", "SCT", "Breast"
    anatomy = {"FrameAnatomySequence": {"FrameLaterality": "B", "AnatomicRegionSequence": Sequence([code])}}
    header = inspect(unpack(make_enhanced(BodyPartExamined=ABSENT, shared=anatomy))[0])
    assert header.warnings == ()
    code.CodeValue = "12738006"  # brain
    assert refusal(make_enhanced(BodyPartExamined=ABSENT, shared=anatomy)).code == "unsupported-body-part"


def kind(*frame_type: str, component: str = "MAGNITUDE") -> dict:
    return {"MRImageFrameTypeSequence": {"FrameType": list(frame_type), "ComplexImageComponent": component}}


T1 = ("ORIGINAL", "PRIMARY", "T1", "NONE")
REFUSED = {
    "phase frames": (make_enhanced(shared=kind(*T1, component="PHASE")), "unsupported-image-type"),
    "mixed components": (make_enhanced(shared=kind(*T1, component="MIXED")), "unsupported-image-type"),
    "mixed frame type": (make_enhanced(shared=kind("ORIGINAL", "PRIMARY", "T1", "MIXED")), "unsupported-image-type"),
    "diffusion map": (make_enhanced(shared=kind("DERIVED", "PRIMARY", "DIFFUSION", "ADC")), "unsupported-image-type"),
    "sagittal": (make_enhanced(
        shared={"PlaneOrientationSequence": {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}}),
        "unsupported-orientation"),
    "brain": (make_enhanced(BodyPartExamined="BRAIN"), "unsupported-body-part"),
    "synthetic": (make_enhanced(SyntheticData="YES"), "already-synthetic"),
    "no position": (make_enhanced(frame={"PlanePositionSequence": {"ImagePositionPatient": ABSENT}}),
                    "missing-geometry"),
    "two phases at one position": (make_enhanced(
        frame={"PlanePositionSequence": {"ImagePositionPatient": [0, 0, 0]}}), "inconsistent-series"),
    "echo time NaN": (make_enhanced(frame={"MREchoSequence": {"EffectiveEchoTime": float("nan")}}),
                      "invalid-attribute-value"),
    "a billion frames": (make_enhanced(NumberOfFrames=b"1000000000"), "too-large"),
    "-1 frames": (make_enhanced(NumberOfFrames=b"-1"), "invalid-image-attributes"),
    "no number of frames": (make_enhanced(NumberOfFrames=ABSENT), "invalid-image-attributes"),
    "fewer items than frames": (make_enhanced(NumberOfFrames=b"4 "), "invalid-image-attributes"),
    "pixels of two frames": (make_enhanced(PixelData=bytes(2 * 48 * 64 * 2)), "truncated-pixels"),
    "8 bits": (make_enhanced(BitsAllocated=8, BitsStored=8, HighBit=7), "lossy-source"),
    "RGB": (make_enhanced(PhotometricInterpretation="RGB"), "unsupported-photometric"),
    "no pixels": (make_enhanced(PixelData=b""), "truncated-pixels"),
    "SOPInstanceUID with a path": (make_enhanced().replace(b"1.2.3.4.1\0", b"../../../x"), "invalid-uid"),
    "cut": (make_enhanced()[:1500], "missing-attribute"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_unsuitable_objects_are_refused_by_name(data, code):
    error = refusal(data)
    assert error.code == code
    assert SECRET not in f"{error!r} {error.detail}"


def test_frames_of_different_kinds_are_refused_as_mixed():
    ds = enhanced_dataset("canon")
    ds.PerFrameFunctionalGroupsSequence[1].MRImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "T2", "NONE"]
    error = refusal(to_bytes(ds))
    assert (error.code, error.where) == ("unsupported-image-type", "FrameType")


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"instances": 2}, "too-large"),
        ({"multiframe_bytes": 48 * 64 * 2 * 2}, "image-too-large"),
        ({"elements": 40, "frame_elements": 5}, "dataset-too-large"),
    ],
)
def test_limits_hold_before_anything_is_decoded(limits, code):
    data = make_enhanced(syntax=RLE)
    with pytest.raises(ReacquireError) as caught:
        unpack(data, limits=Limits(**limits))
    assert caught.value.code == code


def test_an_offset_table_that_repeats_a_frame_does_not_multiply_it():
    ds = enhanced_dataset()
    element = make_enhanced(syntax=RLE)
    streams = [read_fragment(member) for member in unpack(element)]
    from pydicom.encaps import encapsulate_extended

    value, _, _ = encapsulate_extended(streams)
    ds["PixelData"].value, ds["PixelData"].VR = value, "OB"
    ds["PixelData"].is_undefined_length = True
    total = sum(map(len, streams))
    ds.ExtendedOffsetTable = struct.pack("<3Q", 0, 0, 0)
    ds.ExtendedOffsetTableLengths = struct.pack("<3Q", total, total, total)
    ds.file_meta.TransferSyntaxUID = RLE
    assert refusal(to_bytes(ds)).code == "corrupt-pixels"


def test_every_cut_and_flip_of_an_enhanced_file_stays_in_the_exception_tree():
    data = make_enhanced("philips", frames=2)
    rng = np.random.default_rng(5)
    for length in range(200, len(data), len(data) // 40):
        assert refusal(data[:length]).code != "internal-error"
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(132, len(data) - 2 * 48 * 64 * 2, 3):
            damaged[at] = rng.integers(256)
        try:
            for member in unpack(bytes(damaged)):
                read_slice(member)
        except ReacquireError as error:
            assert error.code != "internal-error"


def test_a_forged_note_of_origin_cannot_hold_anything_but_uids():
    member = unpack(make_enhanced())[0]
    forged = member.replace(b"\x99\x00\x02\x10UI\x0a\x001.2.3.4.1\0", b"\x99\x00\x02\x10UI\x0a\x00../../../x")
    assert forged != member
    with pytest.raises(ReacquireError) as caught:
        inspect(forged)
    assert caught.value.code == "invalid-uid"
