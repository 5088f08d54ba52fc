"""The derived MR image: what it copies, what it says, what it leaves behind, by byte round trip."""

from datetime import UTC, datetime

import numpy as np
import pytest
from builders import ABSENT, BIG_ENDIAN, IMPLICIT, J2K_LOSSY, SECRET, make_mr, make_pixels, read_back
from enhanced import make_enhanced
from pydicom import config
from pydicom.uid import UID

from reacquire.dicom import (
    Form,
    Provenance,
    SliceImage,
    read_slice,
    series_window,
    unpack,
    write_counterfactual,
    write_series,
)
from reacquire.dicom.copying import ACQUISITION, PATIENT, SPACE, STUDY
from reacquire.dicom.padding import keep_padding
from reacquire.errors import PixelError

PROVENANCE = Provenance(
    bundle_name="phantom-v0",
    bundle_version="1.0.0",
    bundle_sha256="ab" * 32,
    service_version="0.1.0",
    target={
        "Manufacturer": "GE MEDICAL SYSTEMS",
        "ManufacturerModelName": "Signa HDxt",
        "MagneticFieldStrength": 1.5,
        "ScanOptions": "FAST_GEMS\\SAT_GEMS\\ACC_GEMS\\PFP\\FS",
        "FlipAngle": 10.0,
        "SliceThickness": 2.0,
        "EchoTime": 2.375999927521,
        "RepetitionTime": 5.4,
    },
    source={"Manufacturer": "SIEMENS", "FlipAngle": 10.0, "EchoTime": 1.42},
    provenance={"EchoTime": "target", "FlipAngle": "header"},
    options={"seed": 0, "steps": 8},
)
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def enforce_valid_values(monkeypatch):
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.RAISE)


def write(data: bytes | None = None, *, change: int = 3, **options):
    image = read_slice(make_mr() if data is None else data)
    pixels = np.clip(image.pixels.astype(np.int32) + change, *image.stored_range)
    window = options.pop("window", None)
    form = Form(**options)
    written = write_counterfactual(image, pixels, provenance=PROVENANCE, form=form, window=window, created=CREATED)
    return written, read_back(written)


def series(files: list[bytes], **options) -> list:
    images = [read_slice(data) for data in files]
    pixels = [image.pixels.astype(np.int32) for image in images]
    return [read_back(d) for d in write_series(images, pixels, provenance=PROVENANCE, form=Form(**options))]


def test_pixels_survive_the_round_trip():
    data, ds = write()
    assert np.array_equal(ds.pixel_array, make_pixels() + 3)
    again = read_slice(data, allow_synthetic=True)
    assert np.array_equal(again.pixels, make_pixels() + 3)
    assert (ds.SmallestImagePixelValue, ds.LargestImagePixelValue) == (103, 3003)


def test_the_file_has_a_zero_preamble_and_meta_information_of_its_own():
    data, ds = write()
    assert data[:132] == bytes(128) + b"DICM"
    assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert ds.file_meta.ImplementationVersionName == "REACQUIRE_1"


@pytest.mark.parametrize("syntax", [None, IMPLICIT, BIG_ENDIAN])
def test_geometry_patient_and_study_are_copied_as_strings(syntax):
    source = make_mr(**({"syntax": syntax} if syntax else {}), SliceThickness="1.1000000238419")
    _, ds = write(source)
    original = read_back(source)
    for keyword in (*PATIENT, *STUDY, *SPACE, *ACQUISITION):
        if keyword in original:
            assert str(ds[keyword].value) == str(original[keyword].value), keyword
    assert ds["SliceThickness"].value.original_string == "1.1000000238419"


def test_it_says_that_it_is_synthetic_in_every_place():
    _, ds = write()
    assert ds.SyntheticData == "YES"
    assert list(ds.ImageType) == ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC", "COUNTERFACTUAL"]
    assert ds.SeriesDescription == f"SYNTHETIC counterfactual: t1 {SECRET}"
    assert ds.SeriesNumber == 9007
    assert ds.ContentQualification == "RESEARCH"
    assert ds.ImageComments == "SYNTHETIC - NOT FOR DIAGNOSIS"
    assert ds.DerivationCodeSequence[0].CodeValue == "CFSYNTH"
    assert ds.Manufacturer == "Reacquire"
    assert ds.SoftwareVersions == ["Reacquire 0.1.0", "phantom-v0 1.0.0 abababababababab"]
    assert "EchoTime: 1.42 to 2.375999927521" in ds.DerivationDescription
    assert "ManufacturerModelName: Skyra to Signa HDxt" in ds.DerivationDescription
    assert "FlipAngle" not in ds.DerivationDescription
    assert '"steps":8' in ds[0x0099, 0x1001].value


def test_it_points_to_its_source_and_to_the_real_scanner():
    _, ds = write()
    source = ds.SourceImageSequence[0]
    assert (source.ReferencedSOPInstanceUID, source.SpatialLocationsPreserved) == ("1.2.3.4.1", "YES")
    series = ds.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == "1.2.3.3"
    real, ours = ds.ContributingEquipmentSequence
    assert (real.Manufacturer, real.ManufacturerModelName) == ("SIEMENS", "Skyra")
    assert real.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert ours.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
    assert "Signa HDxt" in ours.ContributionDescription


def test_nothing_outside_the_allow_list_is_carried_over():
    source = make_mr(
        SAR="0.1", PixelBandwidth="500", ImagingFrequency="63.6", SequenceName="*fl3d1", InstitutionName=SECRET
    )
    _, ds = write(source)
    absent = ("ProtocolName", "SAR", "PixelBandwidth", "ImagingFrequency", "SequenceName")
    for keyword in (*absent, "InstitutionName", "RescaleSlope", "ProcedureCodeSequence"):
        assert keyword not in ds
    assert {e.tag.group for e in ds if e.tag.is_private} == {0x0099}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("target", ("2.3759999", "5.4", "1.5", "FAST_GEMS", "10")),
        ("source", ("1.42", "4.05", "2.8936", "PFP", "10")),
        ("blank", (None, None, ABSENT, None, ABSENT)),
    ],
)
def test_acquisition_values_follow_the_policy(policy, expected):
    _, ds = write(header_values=policy)
    keywords = ("EchoTime", "RepetitionTime", "MagneticFieldStrength", "ScanOptions", "FlipAngle")
    for keyword, value in zip(keywords, expected, strict=True):
        if value is ABSENT:
            assert keyword not in ds
        elif value is None:
            assert ds[keyword].is_empty
        else:
            assert str(ds[keyword].value[0] if keyword == "ScanOptions" else ds[keyword].value) == value
    assert ds.SliceThickness == pytest.approx(1.1)  # the slices did not move


def test_decimal_strings_fit_into_sixteen_characters():
    _, ds = write()
    assert all(len(str(e.value)) <= 16 for e in ds if e.VR == "DS" and e.VM == 1)


def test_the_same_job_gives_the_same_uids_and_another_job_others():
    source = make_mr(make_pixels(96, 96))
    options = ({}, {}, {"header_values": "source"}, {"watermark": True})
    jobs = [write(source, **option)[1] for option in options]
    uids = [ds.SOPInstanceUID for ds in jobs]
    assert uids[0] == uids[1]
    assert len(set(uids)) == 3
    assert len({ds.SeriesInstanceUID for ds in jobs}) == 3
    assert all(UID(uid).is_valid and len(uid) <= 44 and uid.startswith("2.25.") for uid in uids)


def test_slices_of_one_series_share_the_derived_series():
    one, two = series([make_mr(), make_mr(SOPInstanceUID="1.2.3.4.2", ImagePositionPatient=["0", "0", "0"])])
    assert one.SeriesInstanceUID == two.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_missing_and_broken_attributes_become_blank_or_are_completed():
    source = make_mr(
        StudyDate=b"***",
        StudyTime=b"25",
        StudyID=ABSENT,
        PatientSex=ABSENT,
        PatientAge=b"old ",
        SequenceVariant=ABSENT,
        ScanningSequence=ABSENT,
        PatientIdentityRemoved="YES",
        SeriesNumber=ABSENT,
        Laterality="L",
    )
    _, ds = write(source)
    for keyword in ("StudyDate", "StudyTime", "StudyID", "PatientSex"):
        assert ds[keyword].is_empty
    assert "PatientAge" not in ds
    assert (ds.ScanningSequence, ds.SequenceVariant, ds.SeriesNumber) == ("RM", "NONE", 9000)
    assert ds.DeidentificationMethod == "Not stated by the source"
    assert ds.ImageLaterality == "L"


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Ä"), ("ISO_IR 192", "山田^太郎"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎")],
)
def test_names_in_other_repertoires_survive(charset, name):
    _, ds = write(make_mr(SpecificCharacterSet=charset, PatientName=name, SeriesDescription="Größe"))
    assert ds.PatientName == name
    assert ds.SeriesDescription.startswith("SYNTHETIC counterfactual: Gr")
    assert ds.SeriesDescription.isascii()


def test_a_long_series_description_keeps_the_marker():
    _, ds = write(make_mr(SeriesDescription="x" * 64))
    assert ds.SeriesDescription == ("SYNTHETIC counterfactual: " + "x" * 64)[:64]


def test_lossy_compression_is_inherited():
    assert write(make_mr(syntax=J2K_LOSSY))[1].LossyImageCompression == "01"


def test_signed_rescaled_and_inverted_sources_are_written_as_identity():
    source = make_mr(RescaleSlope="2", RescaleIntercept="-50", PhotometricInterpretation="MONOCHROME1")
    _, ds = write(source, change=0)
    assert (ds.PhotometricInterpretation, ds.BitsStored, ds.PixelRepresentation) == ("MONOCHROME2", 16, 1)
    assert np.array_equal(ds.pixel_array, 2 * (4095 - make_pixels().astype(int)) - 50)


def test_the_window_is_the_callers_or_that_of_the_image():
    assert (write(window=(300, 120.5))[1].WindowCenter, write(window=(300, 120.5))[1].WindowWidth) == (300, 120.5)
    centre, width = series_window([make_pixels() + 3])
    assert write()[1].WindowCenter == pytest.approx(centre, rel=1e-5)
    assert write()[1].WindowWidth == pytest.approx(width, rel=1e-5)
    assert series_window([np.zeros((4, 4))]) == (0.0, 1.0)  # a width of 0 would be invalid


def test_the_watermark_marks_a_corner_and_nothing_else():
    source = make_mr(make_pixels(128, 160))
    plain, marked = write(source)[1].pixel_array, write(source, watermark=True)[1].pixel_array
    changed = np.argwhere(plain != marked)
    assert len(changed) > 300
    assert changed[:, 0].min() > 64
    assert changed[:, 1].max() < 80
    assert write(source, watermark=True)[1].BurnedInAnnotation == "NO"


def test_an_image_too_small_for_the_watermark_is_refused():
    with pytest.raises(PixelError) as caught:
        write(watermark=True)
    assert caught.value.code == "invalid-image-attributes"


@pytest.mark.parametrize(
    "pixels", [np.zeros((48, 63), int), np.zeros((48, 64), float), np.full((48, 64), 4096), np.full((48, 64), -1)]
)
def test_pixels_that_do_not_fit_are_the_callers_mistake(pixels):
    with pytest.raises(ValueError, match="pixels must"):
        write_counterfactual(read_slice(make_mr()), pixels, provenance=PROVENANCE)


def test_frames_of_an_enhanced_source_are_named_by_number():
    files = unpack(make_enhanced("siemens", 3))
    for frame, ds in enumerate(series(files), start=1):
        source = ds.SourceImageSequence[0]
        assert source.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.4.1"
        assert source.ReferencedFrameNumber == frame
        instance = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
        assert instance.ReferencedSOPInstanceUID == source.ReferencedSOPInstanceUID
        assert "ReferencedFrameNumber" not in instance


def padded(**changes) -> SliceImage:
    """A slice whose left edge is padding; the value's VR is only settled when a file is re-encoded."""
    pixels = make_pixels().astype(np.int16)
    pixels[:, :4] = changes.get("PixelPaddingValue", 0)
    return read_slice(make_mr(pixels, syntax=IMPLICIT, **changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"PixelPaddingValue": 0}, (0, None)),
        ({"PixelPaddingValue": 3, "PixelPaddingRangeLimit": 9}, (3, 9)),
        ({"PixelPaddingValue": -5, "PixelRepresentation": 1}, (-5, None)),
        ({"PixelPaddingValue": 4095, "PhotometricInterpretation": "MONOCHROME1"}, (0, None)),
        ({"PixelPaddingValue": 10, "RescaleSlope": "2", "RescaleIntercept": "-7"}, (13, None)),
    ],
    ids=["plain", "range", "signed", "inverted", "rescaled"],
)
def test_padding_is_kept_in_an_edit_and_stated_in_the_files_own_values(changes, expected):
    source = padded(**changes)
    edited = np.clip(source.pixels.astype(np.int32) + 20, *source.stored_range)
    kept = keep_padding(source, edited)
    assert np.array_equal(kept[:, :4], source.pixels[:, :4])
    assert np.array_equal(kept[:, 4:], edited[:, 4:])
    ds = read_back(write_counterfactual(source, kept, provenance=PROVENANCE))
    assert (ds.PixelPaddingValue, ds.get("PixelPaddingRangeLimit")) == expected
    lost = read_back(write_counterfactual(source, edited, provenance=PROVENANCE))
    assert "PixelPaddingValue" not in lost


def test_long_decimals_of_sources_are_shortened_and_keep_the_geometry():
    source = make_mr(
        ImagePositionPatient=b"-100.50000000000000001\\-90.249999999999999\\12.5 ", PatientWeight=b"1e400 "
    )
    _, ds = write(source)
    assert np.allclose([float(v) for v in ds.ImagePositionPatient], (-100.5, -90.25, 12.5), atol=1e-9)
    assert all(len(str(v)) <= 16 for v in ds.ImagePositionPatient)
    assert "PatientWeight" not in ds
