"""What a derived MR image says, attribute by attribute: the table of its specification, one assertion per row."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from builders import ABSENT, JPEG_LS_NEAR, SECRET, make_dataset, make_mr, make_pixels, read_back, to_bytes
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID
from test_dicom_write import PROVENANCE

from reacquire.dicom import Form, read_slice, write_counterfactual

Row = Callable[[], bool]
ROWS: dict[str, Row] = {}
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

ISSUER = Dataset()
ISSUER.UniversalEntityID, ISSUER.UniversalEntityIDType = "1.2.3.77", "ISO"
RICH = {
    "SpecificCharacterSet": "ISO_IR 100",
    "IssuerOfPatientID": "hospital",
    "IssuerOfAccessionNumberSequence": Sequence([ISSUER]),
    "PatientAge": "050Y",
    "PatientSize": "1.7",
    "PatientWeight": "65.5",
    "PatientIdentityRemoved": "YES",
    "AcquisitionDate": "20200102",
    "AcquisitionTime": "101500.25",
    "AcquisitionNumber": "5",
    "SliceLocation": "12.5",
    "SpacingBetweenSlices": "2",
    "ContrastBolusAgent": "agent",
    "SoftwareVersions": "syngo",
    "ReferencedImageSequence": Sequence([ISSUER]),
    "ProcedureCodeSequence": Sequence([ISSUER]),
    "RequestAttributesSequence": Sequence([ISSUER]),
    **{k: SECRET for k in ("InstitutionName", "StationName", "PerformedProcedureStepID")},
    "PerformedProcedureStepDescription": SECRET,
    **{k: "1" for k in ("SAR", "ImagingFrequency", "PixelBandwidth", "NumberOfAverages", "PercentSampling")},
    "SequenceName": "*fl3d1",
    "ReceiveCoilName": "BR",
    "DateOfLastCalibration": "20200101",
    "WindowCenter": "1",
    "WindowWidth": "2",
}  # fmt: skip


def derived(change: int = 3, form: Form | None = None, syntax: str | None = None, **changes) -> Dataset:
    data = make_mr(**({"syntax": syntax} if syntax else {}), **{**RICH, **changes})
    source = read_slice(data)
    pixels = np.clip(source.pixels.astype(np.int32) + change, *source.stored_range)
    return read_back(write_counterfactual(source, pixels, provenance=PROVENANCE, form=form, created=CREATED))


SOURCE = read_back(make_mr(**RICH))


def row(name: str) -> Callable[[Row], Row]:
    def register(check: Row) -> Row:
        ROWS[name] = check
        return check

    return register


def copied(*keywords: str) -> bool:
    ds = derived()
    return all(str(ds[k].value) == str(SOURCE[k].value) for k in keywords)


def dropped(*keywords: str) -> bool:
    ds = derived()
    return all(k in SOURCE and k not in ds for k in keywords)


row("SyntheticData is YES")(lambda: derived().SyntheticData == "YES")
row("ImageType says derived, secondary, synthetic")(
    lambda: derived().ImageType == ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC", "COUNTERFACTUAL"]
)


@row("UIDs are new, under 2.25, and a function of source and job")
def _() -> bool:
    one, again, other = derived(), derived(), derived(form=Form(header_values="blank"))
    uids = [ds.SOPInstanceUID for ds in (one, again, other)]
    new = all(UID(u).is_valid and u.startswith("2.25.") and len(u) <= 44 for u in (*uids, one.SeriesInstanceUID))
    return new and uids[0] == uids[1] != uids[2] and one.file_meta.MediaStorageSOPInstanceUID == uids[0]


row("patient and study are copied")(
    lambda: copied(
        "StudyInstanceUID", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
        "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
        "PatientAge", "PatientSize", "PatientWeight",
    )
)  # fmt: skip
row("the accession number keeps its issuer")(
    lambda: derived().IssuerOfAccessionNumberSequence[0].UniversalEntityID == "1.2.3.77"
)


@row("the character set is copied and own texts are ASCII")
def _() -> bool:
    ds = derived(PatientName="Müller^Ä", SeriesDescription="Größe")
    own = (ds.SeriesDescription, ds.DerivationDescription, ds.ImageComments, ds.Manufacturer)
    return ds.SpecificCharacterSet == "ISO_IR 100" and ds.PatientName == "Müller^Ä" and all(t.isascii() for t in own)


row("Modality is MR")(lambda: derived().Modality == "MR")
row("SeriesNumber is 9000 and the source's modulo 1000")(lambda: derived(SeriesNumber=12345).SeriesNumber == 9345)
row("SeriesDescription begins with the marker and is cut to 64")(
    lambda: derived(SeriesDescription="x" * 64).SeriesDescription == ("SYNTHETIC counterfactual: " + "x" * 64)[:64]
)
row("protocol, procedure step and device calibration are dropped")(
    lambda: dropped(
        "ProtocolName", "SequenceName", "PerformedProcedureStepID", "PerformedProcedureStepDescription",
        "RequestAttributesSequence", "DateOfLastCalibration",
    )
)  # fmt: skip


@row("series, content and instance are of now, in the source's time zone")
def _() -> bool:
    ds, far = derived(), derived(TimezoneOffsetFromUTC="-0500")
    now = [(ds[f"{e}Date"].value, ds[f"{e}Time"].value) for e in ("Series", "Content", "InstanceCreation")]
    return (
        set(now) == {("20260102", "030405")}
        and ds.TimezoneOffsetFromUTC == "+0000"
        and (far.SeriesDate, far.SeriesTime, far.TimezoneOffsetFromUTC) == ("20260101", "220405", "-0500")
    )


row("acquisition date, time and number are the source's")(
    lambda: copied("AcquisitionDate", "AcquisitionTime", "AcquisitionNumber")
)


@row("the equipment is ours")
def _() -> bool:
    ds = derived()
    return (
        (ds.Manufacturer, ds.ManufacturerModelName) == ("Reacquire", "Reacquire counterfactual MRI")
        and list(ds.SoftwareVersions) == ["Reacquire 0.1.0", "phantom-v0 1.0.0 abababababababab"]
        and ds.DeviceSerialNumber == "ab" * 8
    )


@row("the real scanner and ours contributed, and the simulated one is named")
def _() -> bool:
    real, ours = derived().ContributingEquipmentSequence
    purposes = [i.PurposeOfReferenceCodeSequence[0].CodeValue for i in (real, ours)]
    return (
        purposes == ["109101", "109100"]
        and (real.Manufacturer, real.ManufacturerModelName, real.SoftwareVersions) == ("SIEMENS", "Skyra", "syngo")
        and "GE MEDICAL SYSTEMS, Signa HDxt" in ours.ContributionDescription
    )


@row("TE, TR, FA, B0 and ScanOptions are the target's, the source's or blank")
def _() -> bool:
    keywords = ("EchoTime", "RepetitionTime", "FlipAngle", "MagneticFieldStrength", "ScanOptions")
    stated = {
        policy: ["-" if k not in ds or ds[k].is_empty else str(ds[k].value) for k in keywords]
        for policy in ("target", "source", "blank")
        for ds in [derived(form=Form(header_values=policy))]
    }
    return stated == {
        "target": ["2.3759999", "5.4", "10", "1.5", "['FAST_GEMS', 'SAT_GEMS', 'ACC_GEMS', 'PFP', 'FS']"],
        "source": ["1.42", "4.05", "10", "2.8936", "['PFP', 'SFS']"],
        "blank": ["-"] * 5,
    }


row("SliceThickness is the source's, always")(lambda: copied("SliceThickness"))
row("what is not modelled is the source's")(
    lambda: copied("ScanningSequence", "SequenceVariant", "MRAcquisitionType", "EchoTrainLength")
)
row("what is false for the target is dropped")(
    lambda: dropped(
        "SAR", "ImagingFrequency", "PixelBandwidth", "NumberOfAverages", "ReceiveCoilName", "PercentSampling"
    )
)


@row("target and source values are there to read and to parse")
def _() -> bool:
    ds = derived()
    creator, text = ds[0x0099, 0x0010].value, ds[0x0099, 0x1001].value
    return (
        "EchoTime: 1.42 to 2.375999927521" in ds.DerivationDescription
        and len(ds.DerivationDescription) <= 1024
        and (creator, text) == ("REACQUIRE 1.0", PROVENANCE.to_json())
    )


row("the derivation is coded, and the private scheme is identified")(
    lambda: (
        [c.CodeValue for c in derived().DerivationCodeSequence] == ["CFSYNTH", "113085"]
        and derived().CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99BCFMR"
    )
)


@row("SourceImageSequence names the source; ReferencedImageSequence is left out")
def _() -> bool:
    ds = derived()
    (image,) = ds.SourceImageSequence
    return (
        (image.ReferencedSOPInstanceUID, image.SpatialLocationsPreserved) == ("1.2.3.4.1", "YES")
        and image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        and "ReferencedImageSequence" not in ds
    )


@row("ReferencedSeriesSequence names source series and instance")
def _() -> bool:
    (series,) = derived().ReferencedSeriesSequence
    instance = series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
    return (series.SeriesInstanceUID, instance) == ("1.2.3.3", "1.2.3.4.1")


row("the place in space is the source's")(
    lambda: copied(
        "FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "ImageOrientationPatient",
        "ImagePositionPatient", "SliceLocation", "SpacingBetweenSlices", "InstanceNumber",
    )
)  # fmt: skip
row("the grid is the native one")(lambda: copied("Rows", "Columns", "PixelSpacing"))


@row("stored bits are the source's, and MONOCHROME1 becomes MONOCHROME2")
def _() -> bool:
    ds = derived(change=0, PhotometricInterpretation="MONOCHROME1", BitsStored=14, HighBit=13)
    form = (ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.PhotometricInterpretation)
    inverted = np.array_equal(ds.pixel_array, 0x3FFF - make_pixels())
    return form == (16, 14, 13, 0, "MONOCHROME2") and inverted


@row("a rescale is applied to the pixels and not written")
def _() -> bool:
    ds = derived(change=0, RescaleSlope="2", RescaleIntercept="-50")
    return not {"RescaleSlope", "RescaleIntercept"} & set(ds.dir()) and np.array_equal(
        ds.pixel_array, 2 * make_pixels().astype(int) - 50
    )


@row("window and extremes are computed anew")
def _() -> bool:
    ds = derived()
    extremes = [
        ds[f"{e}{of}"].value for of in ("ImagePixelValue", "PixelValueInSeries") for e in ("Smallest", "Largest")
    ]
    return ds.WindowWidth > 100 and extremes == [103, 3003] * 2


row("PixelPaddingValue stays where the padding does")(
    lambda: (
        derived(change=0, PixelPaddingValue=100).PixelPaddingValue == 100
        and "PixelPaddingValue" not in derived(change=3, PixelPaddingValue=100)
    )
)
row("BurnedInAnnotation is NO, watermark or not; RecognizableVisualFeatures is left out")(
    lambda: (
        derived().BurnedInAnnotation == "NO"
        and "RecognizableVisualFeatures" not in derived(RecognizableVisualFeatures="NO")
    )
)


@row("the watermark is in the pixels when asked for")
def _() -> bool:
    source = read_slice(make_mr(make_pixels(96, 96)))
    pixels = source.pixels.astype(np.int32)
    plain, marked = (
        read_back(write_counterfactual(source, pixels, provenance=PROVENANCE, form=Form(watermark=w))).pixel_array
        for w in (False, True)
    )
    return bool(np.array_equal(plain, pixels) and (marked != pixels).sum() > 300)


@row("overlays are dropped")
def _() -> bool:
    with_overlay = make_dataset()
    with_overlay.add_new(0x60000010, "US", 48)
    source = read_slice(to_bytes(with_overlay))
    ds = read_back(write_counterfactual(source, source.pixels.astype(np.int32), provenance=PROVENANCE))
    return not any(0x6000 <= e.tag.group <= 0x60FF for e in ds)


row("ContentQualification is RESEARCH whatever the source's")(
    lambda: (
        {derived(ContentQualification=q).ContentQualification for q in ("PRODUCT", "RESEARCH", "SERVICE")}
        == {"RESEARCH"}
    )
)
row("loss of compression is inherited and never taken back")(
    lambda: (
        derived(LossyImageCompression="01", LossyImageCompressionRatio="9").LossyImageCompression == "01"
        and derived(syntax=JPEG_LS_NEAR, change=0).LossyImageCompression == "01"
    )
)
row("ImageLaterality is B unless the source knows the side; Laterality is not written")(
    lambda: (
        derived(Laterality=b"").ImageLaterality == "B"
        and derived(Laterality="L").ImageLaterality == "L"
        and "Laterality" not in derived(Laterality="L")
    )
)
row("BodyPartExamined and ContrastBolusAgent are copied")(lambda: copied("BodyPartExamined", "ContrastBolusAgent"))
row("PatientIdentityRemoved is copied, and a method is added where there is none")(
    lambda: (
        derived().PatientIdentityRemoved == "YES"
        and derived(DeidentificationMethod=ABSENT).DeidentificationMethod == "Not stated by the source"
        and derived(DeidentificationMethod="by hand").DeidentificationMethod == "by hand"
    )
)
row("ImageComments warn")(lambda: derived().ImageComments == "SYNTHETIC - NOT FOR DIAGNOSIS")


@row("private groups, institution and procedure are dropped")
def _() -> bool:
    ds = derived()
    private = {e.tag.group for e in ds if e.tag.is_private}
    return private == {0x0099} and dropped("InstitutionName", "StationName", "ProcedureCodeSequence")


row("there is no algorithm identification macro, which MR has not")(
    lambda: not any(e.tag.group == 0x66 for e in derived())
)


@pytest.mark.parametrize("check", ROWS.values(), ids=ROWS.keys())
def test_row_of_the_table(check: Row) -> None:
    assert check()
