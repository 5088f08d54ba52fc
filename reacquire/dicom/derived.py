"""The header of a counterfactual MR image, built up from an allow-list (PS3.3 A.4, C.12.1).

Every attribute that says "synthetic" is set here, twice over: those that people read and those that de-identification
keeps. Pixels and bytes are ``write``'s.
"""

from datetime import datetime
from typing import Literal

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from reacquire.dicom import copying, values
from reacquire.dicom.checks import MR_IMAGE
from reacquire.dicom.codes import (
    ACQUISITION_EQUIPMENT,
    RESAMPLING,
    SOURCE_IMAGE,
    SYNTHESIS,
    SYNTHESIZING_EQUIPMENT,
    code_sequence,
    scheme_identification,
)
from reacquire.dicom.copying import ascii_text
from reacquire.dicom.header import Header
from reacquire.dicom.provenance import Provenance
from reacquire.dicom.tags import ATTRIBUTES, Attribute
from reacquire.dicom.uids import derive_uid

HeaderValues = Literal["target", "source", "blank"]

MANUFACTURER, MODEL = "Reacquire", "Reacquire counterfactual MRI"
WARNING_TEXT = "SYNTHETIC - NOT FOR DIAGNOSIS"
PRIVATE_GROUP, PRIVATE_CREATOR = 0x0099, "REACQUIRE 1.0"
MAY_BE_EMPTY = ("EchoTime", "RepetitionTime", "ScanOptions")  # Type 2 and 2C; the others are Type 3 and left out


def derived_header(
    header: Header, provenance: Provenance, *, header_values: HeaderValues, watermark: bool, created: datetime
) -> Dataset:
    """Everything but the Image Pixel module of a counterfactual.

    Parameters
    ----------
    header : Header
        Of the source slice.
    header_values : {"target", "source", "blank"}
        Which EchoTime, RepetitionTime, FlipAngle, MagneticFieldStrength and ScanOptions are written. SliceThickness is
        the source's in any case, because the slices did not move.
    created : datetime
        Creation time of series and instance.
    """
    source = header.dataset
    keywords = copying.PATIENT + copying.STUDY + copying.SPACE + copying.ACQUISITION
    ds = copying.inherit(source, keywords)
    _identify(ds, header, (provenance.to_json(), header_values, watermark))
    _mark_as_synthetic(ds, header, provenance)
    _describe_series(ds, source, created)
    _describe_equipment(ds, source, provenance, created)
    _refer_to_source(ds, header)
    _complete(ds, header)
    for attribute in ATTRIBUTES:
        if attribute.target:
            _set_acquisition_value(ds, header, provenance, attribute, header_values)
    return ds


def _identify(ds: Dataset, header: Header, job: tuple[str, str, bool]) -> None:
    """One series per source series and job; the same job gives the same UIDs."""
    ds.SOPClassUID = MR_IMAGE
    ds.SOPInstanceUID = derive_uid("instance", header.sop_instance_uid, *job)
    ds.SeriesInstanceUID = derive_uid("series", header.series_key, *job)


def _mark_as_synthetic(ds: Dataset, header: Header, provenance: Provenance) -> None:
    ds.SyntheticData = "YES"
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC", "COUNTERFACTUAL"]
    ds.ContentQualification = "RESEARCH"
    ds.ImageComments = WARNING_TEXT
    ds.BurnedInAnnotation = "NO"  # of patient data; a bare watermark is none
    ds.DerivationCodeSequence = code_sequence(SYNTHESIS, RESAMPLING)
    ds.CodingSchemeIdentificationSequence = scheme_identification()
    changes = "; ".join(
        f"{keyword}: {_plain(before or header.iap.get(keyword, 'unknown'))} to {_plain(after)}"
        for keyword, (before, after) in provenance.changes().items()
    )
    ds.DerivationDescription = f"Counterfactual MR synthesis. {changes or 'no parameter changed'}"[:1024]
    block = ds.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "UT", provenance.to_json())


def _plain(value: str | float) -> str:
    """A value for free text: default repertoire, no backslash (it separates values)."""
    return str(value).replace("\\", "/").encode("ascii", "replace").decode()


def _describe_series(ds: Dataset, source: Dataset, created: datetime) -> None:
    ds.Modality = "MR"
    number = values.texts(source, "SeriesNumber")
    ds.SeriesNumber = 9000 + (int(number[0]) % 1000 if number and number[0].isdecimal() else 0)
    # The marker comes first, so that cutting to the 64 characters of LO cannot lose it.
    ds.SeriesDescription = f"SYNTHETIC counterfactual: {ascii_text(source, 'SeriesDescription') or ''}"[:64].rstrip()
    date, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    for event in ("Series", "Content", "InstanceCreation"):
        setattr(ds, f"{event}Date", date)
        setattr(ds, f"{event}Time", time)
    if created.tzinfo is not None:
        ds.TimezoneOffsetFromUTC = created.strftime("%z")


def _describe_equipment(ds: Dataset, source: Dataset, provenance: Provenance, created: datetime) -> None:
    """Ours as General Equipment (it made this instance); the real scanner only as a contributor."""
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = MANUFACTURER, MODEL, provenance.software()
    ours = Dataset()
    ours.PurposeOfReferenceCodeSequence = code_sequence(SYNTHESIZING_EQUIPMENT)
    ours.Manufacturer, ours.ManufacturerModelName, ours.SoftwareVersions = MANUFACTURER, MODEL, provenance.software()
    ours.ContributionDateTime = created.strftime("%Y%m%d%H%M%S%z")
    scanner = (str(provenance.target.get(k, "unknown")) for k in ("Manufacturer", "ManufacturerModelName"))
    ours.ContributionDescription = f"Simulated scanner: {', '.join(scanner)}"
    items = [ours]
    if maker := ascii_text(source, "Manufacturer"):
        scanner_item = Dataset()
        scanner_item.PurposeOfReferenceCodeSequence = code_sequence(ACQUISITION_EQUIPMENT)
        scanner_item.Manufacturer = maker
        for keyword in ("ManufacturerModelName", "SoftwareVersions"):
            if text := ascii_text(source, keyword):
                setattr(scanner_item, keyword, text)
        items.insert(0, scanner_item)
    ds.ContributingEquipmentSequence = Sequence(items)


def _refer_to_source(ds: Dataset, header: Header) -> None:
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = MR_IMAGE, header.sop_instance_uid
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = code_sequence(SOURCE_IMAGE)
    ds.SourceImageSequence = Sequence([image])
    instance = Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = MR_IMAGE, header.sop_instance_uid
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = header.series_key, Sequence([instance])
    ds.ReferencedSeriesSequence = Sequence([series])


def _complete(ds: Dataset, header: Header) -> None:
    """Conditional attributes that sources leave out, so that our object has no error of its own."""
    source = header.dataset
    sides = [s for k in ("ImageLaterality", "Laterality") for s in values.codes(source, k) if s in ("L", "R", "B")]
    ds.ImageLaterality = sides[0] if sides else "B"
    if header.lossy:
        ds.LossyImageCompression = "01"  # must never go back to 00 (PS3.3 C.7.6.1.1.5)
    if values.raw(source, "ScanningSequence") is None:
        ds.ScanningSequence = "RM"  # Type 1; "research mode" is the defined term for anything else
    if values.raw(source, "SequenceVariant") is None:
        ds.SequenceVariant = "NONE"
    if values.codes(source, "PatientIdentityRemoved") == ("YES",) and "DeidentificationMethod" not in ds:
        ds.DeidentificationMethod = "Not stated by the source"


def _set_acquisition_value(
    ds: Dataset, header: Header, provenance: Provenance, attribute: Attribute, header_values: HeaderValues
) -> None:
    """PS3.3 C.12.1: with SyntheticData YES the technique attributes hold the simulated values."""
    keyword = attribute.keyword
    value = provenance.target.get(keyword)
    if header_values == "blank":
        value = None
    elif header_values == "source" or value is None or value == header.iap.get(keyword):
        copying.copy_element(header.dataset, ds, keyword)  # the source's own spelling
        value = None
    if value is not None:
        setattr(ds, keyword, value.split("\\") if isinstance(value, str) else f"{value:.8g}"[:16])
    elif keyword not in ds and keyword in MAY_BE_EMPTY:
        setattr(ds, keyword, None)
