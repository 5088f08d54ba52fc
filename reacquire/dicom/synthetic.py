"""What every counterfactual says about itself, whichever object it is written as (PS3.3 C.12.1).

Each statement stands twice: where people read it and where de-identification leaves it. ``derived`` adds what makes an
MR image, ``capture`` what makes a secondary capture.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from typing import Any, Literal

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

from reacquire.dicom import copying, values
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
from reacquire.dicom.uids import derive_uid

HeaderValues = Literal["target", "source", "blank"]
OutputClass = Literal["mr", "secondary-capture"]

MANUFACTURER, MODEL = "Reacquire", "Reacquire counterfactual MRI"
WARNING_TEXT = "SYNTHETIC - NOT FOR DIAGNOSIS"
PRIVATE_GROUP, PRIVATE_CREATOR = 0x0099, "REACQUIRE 1.0"


@dataclass(frozen=True)
class Form:
    """In which form counterfactuals are written: what the user and the site chose.

    Attributes
    ----------
    header_values : {"target", "source", "blank"}
        Which acquisition values the header of an MR image states.
    watermark : bool
        Burn the warning into the pixels.
    output_class : {"mr", "secondary-capture"}
        MR Image Storage, or Secondary Capture Image Storage.
    uid_root : str or None
        The site's own root for UIDs (``uids.check_uid_root``).
    """

    header_values: HeaderValues = "target"
    watermark: bool = False
    output_class: OutputClass = "mr"
    uid_root: str | None = None


@dataclass(frozen=True)
class Derivation:
    """What all instances of one derived series share.

    Attributes
    ----------
    headers : tuple of Header
        Of all source slices; the first one describes the series.
    created : datetime
        When series and instances were made.
    window : (centre, width)
        Display window of the whole series.
    """

    headers: tuple[Header, ...] = field(repr=False)
    provenance: Provenance
    form: Form
    created: datetime
    window: tuple[float, float]

    @cached_property
    def key(self) -> str:
        """Digest of everything that decides what the instances hold, apart from the time."""
        members = sorted(header.sop_instance_uid for header in self.headers)
        choices = (self.form.header_values, self.form.watermark, self.form.output_class)
        return str(derive_uid("derivation", self.provenance.to_json(), choices, self.window, members))

    def uid(self, kind: str, source: str) -> UID:
        """The UID of what is made from the source instance or series ``source``."""
        return derive_uid(kind, source, self.key, root=self.form.uid_root)

    @cached_property
    def lossy(self) -> bool:
        """Whether any slice was ever compressed with loss."""
        return any(header.lossy for header in self.headers)

    @cached_property
    def sources(self) -> tuple[Dataset, ...]:
        """The headers' data sets."""
        return tuple(header.dataset for header in self.headers)

    def carried(self, keywords: Sequence[str]) -> tuple[str, ...]:
        """Which of ``keywords`` every instance takes from its source (``copying.carried``)."""
        if keywords not in self._carried:
            self._carried[keywords] = copying.carried(self.sources, keywords)
        return self._carried[keywords]

    @cached_property
    def _carried(self) -> dict[Any, tuple[str, ...]]:
        return {}


def mark_as_synthetic(ds: Dataset, derivation: Derivation, header: Header) -> None:
    """Identity, the statements that the image is synthetic, and where it comes from."""
    ds.SOPInstanceUID = derivation.uid("instance", header.sop_instance_uid)
    ds.SeriesInstanceUID = derivation.uid("series", header.series_key)
    ds.SyntheticData = "YES"
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC", "COUNTERFACTUAL"]
    ds.ContentQualification = "RESEARCH"  # whatever the source's: derived from RESEARCH or SERVICE is never PRODUCT
    ds.ImageComments = WARNING_TEXT
    ds.BurnedInAnnotation = "NO"  # of patient data; a bare watermark is none
    ds.DerivationCodeSequence = code_sequence(SYNTHESIS, RESAMPLING)
    ds.CodingSchemeIdentificationSequence = scheme_identification()
    _describe_change(ds, derivation.provenance, header)
    _describe_series(ds, derivation)
    _describe_equipment(ds, derivation)
    _refer_to_source(ds, header)
    _complete(ds, derivation, header)


def _describe_change(ds: Dataset, provenance: Provenance, header: Header) -> None:
    changes = "; ".join(
        f"{keyword}: {plain(before or header.iap.get(keyword, 'unknown'))} to {plain(after)}"
        for keyword, (before, after) in provenance.changes().items()
    )
    ds.DerivationDescription = f"Counterfactual MR synthesis. {changes or 'no parameter changed'}"[:1024]
    block = ds.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "UT", provenance.to_json())


def plain(value: str | float) -> str:
    """A value for texts and codes: default repertoire, ``/`` for the backslash, which separates values."""
    return str(value).replace("\\", "/").encode("ascii", "replace").decode()


def _describe_series(ds: Dataset, derivation: Derivation) -> None:
    source = derivation.sources[0]
    ds.SeriesNumber = 9000 + series_number(source)
    # The marker comes first, so that cutting to the 64 characters of LO cannot lose it.
    ds.SeriesDescription = f"SYNTHETIC counterfactual: {ascii_text(source, 'SeriesDescription') or ''}"[:64].rstrip()
    set_times(ds, derivation.created, derivation.sources)


def series_number(source: Dataset) -> int:
    """The source's SeriesNumber modulo 1000, 0 where it has none, to be added to a thousand of our own."""
    number = values.texts(source, "SeriesNumber")
    return int(number[0]) % 1000 if number and number[0].isascii() and number[0].isdecimal() else 0


def set_times(ds: Dataset, created: datetime, sources: Sequence[Dataset]) -> None:
    """Dates and times of series, content and instance, in the time zone that the sources state for theirs.

    One TimezoneOffsetFromUTC holds for all times of an object, those copied from the source too.
    """
    if created.tzinfo is not None:
        offsets = {values.text(source, "TimezoneOffsetFromUTC") for source in sources}
        created = created.astimezone(_zone(offsets.pop() if len(offsets) == 1 else None) or created.tzinfo)
        ds.TimezoneOffsetFromUTC = created.strftime("%z")
    for event in ("Series", "Content", "InstanceCreation"):
        setattr(ds, f"{event}Date", created.strftime("%Y%m%d"))
        setattr(ds, f"{event}Time", created.strftime("%H%M%S"))


def _zone(offset: str | None) -> tzinfo | None:
    """The zone of ``+hhmm``, None when it is absent or outside -1200 to +1400 (PS3.3 C.12.1.1.8)."""
    if offset is None or not re.fullmatch(r"[+-]\d{2}[0-5]\d", offset) or not -1200 <= int(offset) <= 1400:
        return None
    return datetime.strptime(offset, "%z").tzinfo


def _describe_equipment(ds: Dataset, derivation: Derivation) -> None:
    """Ours as General Equipment (it made this instance); the real scanner only as a contributor."""
    provenance, source = derivation.provenance, derivation.sources[0]
    ours = Dataset()
    for item in (ds, ours):
        item.Manufacturer, item.ManufacturerModelName = MANUFACTURER, MODEL
        item.SoftwareVersions = provenance.software()
        item.DeviceSerialNumber = provenance.bundle_sha256[:16]  # the weights: another set is another device
    ours.PurposeOfReferenceCodeSequence = code_sequence(SYNTHESIZING_EQUIPMENT)
    ours.ContributionDateTime = derivation.created.strftime("%Y%m%d%H%M%S%z")
    simulated = (str(provenance.target.get(k, "unknown")) for k in ("Manufacturer", "ManufacturerModelName"))
    ours.ContributionDescription = f"Simulated scanner: {', '.join(simulated)}"
    items = [ours]
    if maker := ascii_text(source, "Manufacturer"):
        scanner = Dataset()
        scanner.PurposeOfReferenceCodeSequence = code_sequence(ACQUISITION_EQUIPMENT)
        scanner.Manufacturer = maker
        for keyword in ("ManufacturerModelName", "SoftwareVersions"):
            if text := ascii_text(source, keyword):
                setattr(scanner, keyword, text)
        items.insert(0, scanner)
    ds.ContributingEquipmentSequence = Items(items)


def _refer_to_source(ds: Dataset, header: Header) -> None:
    origin = header.origin
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = origin.class_uid, origin.instance_uid
    if origin.frame is not None:
        image.ReferencedFrameNumber = origin.frame
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = code_sequence(SOURCE_IMAGE)
    ds.SourceImageSequence = Items([image])
    instance = Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = origin.class_uid, origin.instance_uid
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = header.series_key, Items([instance])
    ds.ReferencedSeriesSequence = Items([series])


def _complete(ds: Dataset, derivation: Derivation, header: Header) -> None:
    """Conditional attributes that sources leave out, so that our object has no error of its own."""
    source = header.dataset
    sides = [s for k in ("ImageLaterality", "Laterality") for s in values.codes(source, k) if s in ("L", "R", "B")]
    ds.ImageLaterality = sides[0] if sides else "B"
    if derivation.lossy:
        ds.LossyImageCompression = "01"  # must never go back to 00 (PS3.3 C.7.6.1.1.5)
    state_deidentification(ds, derivation.sources)
    copying.copy_issuer(derivation.sources[0], ds)


def state_deidentification(ds: Dataset, sources: Sequence[Dataset]) -> None:
    """PatientIdentityRemoved YES needs a method (PS3.3 C.7.1.1), which many archives leave out."""
    removed = any(values.codes(source, "PatientIdentityRemoved") == ("YES",) for source in sources)
    if (removed or "DeidentificationMethod" in ds) and values.raw(ds, "DeidentificationMethod") is None:
        ds.DeidentificationMethod = "Not stated by the source"


def now() -> datetime:
    """The time of creation where the caller does not state one."""
    return datetime.now(UTC)
