"""What highdicom gets to see of a source, and how its product comes to name the real one.

highdicom copies what it likes from sources, fails on ones that lack a Type 2 attribute, and puts names and UIDs into
warnings and log lines. So it meets stand-ins: grid and equipment of the source under placeholder UIDs, with a blank
patient. ``adopt`` puts the real references, patient and study in afterwards, byte for byte.
"""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import UID

from reacquire.dicom import copying, values
from reacquire.dicom.checks import MR_IMAGE
from reacquire.dicom.header import Header
from reacquire.dicom.origin import Origin
from reacquire.dicom.synthetic import set_times, state_deidentification
from reacquire.dicom.uids import derive_uid
from reacquire.errors import DatasetError

_BLANKS = tuple(k for k in copying.PATIENT + copying.STUDY if k in copying.TYPE_2)  # highdicom reads them all
_SHARED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
# Where a reference means one frame of a multi-frame object (Image SOP Instance Reference Macro, PS3.3 10.3).
_IMAGE_REFERENCES = ("SourceImageSequence", "ReferencedImageSequence")


def stand_ins(headers: Sequence[Header]) -> list[Dataset]:
    """One stand-in per header: identity, grid, equipment; nothing of the patient."""
    return [_stand_in(header, number) for number, header in enumerate(headers)]


def _stand_in(header: Header, number: int) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = MR_IMAGE, _placeholder("instance", number), "MR"
    for keyword in _SHARED:
        setattr(ds, keyword, _placeholder(keyword))
    ds.PositionReferenceIndicator = ""
    ds.Rows, ds.Columns = header.rows, header.columns
    geometry = header.geometry
    ds.ImageOrientationPatient, ds.ImagePositionPatient = list(geometry.iop), list(geometry.ipp)
    ds.PixelSpacing = list(geometry.spacing)
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"):  # the source's own spelling
        if (encoded := copying.sound(header.dataset, keyword)) is not None:
            setattr(ds, keyword, encoded.decode("ascii").split("\\"))
    ds.SliceThickness = values.number(header.dataset, "SliceThickness")
    with contextlib.suppress(DatasetError):  # nobody has looked at it so far, and results do without
        if (spacing := values.number(header.dataset, "SpacingBetweenSlices")) is not None:
            ds.SpacingBetweenSlices = spacing
    for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions"):
        if text := copying.ascii_text(header.dataset, keyword):
            setattr(ds, keyword, text)
    for keyword in _BLANKS:
        setattr(ds, keyword, "")
    return ds


def _placeholder(*key: str | int) -> UID:
    return derive_uid("stand-in", *key)


def adopt(built: Dataset, headers: Sequence[Header], *, created: datetime, uid_root: str | None) -> Dataset:
    """What highdicom built from stand-ins of ``headers``, as an object about the real slices.

    Parameters
    ----------
    created : datetime
        Put in place of the times at which highdicom ran.

    Returns
    -------
    Dataset
        Patient and study as the first source encodes them, references as the sources' ``origin``; marked as synthetic
        when a source is, and as research use in any case.
    """
    first = headers[0]
    real: dict[str, str] = {_placeholder(k): values.uid(first.dataset, k) or "" for k in _SHARED}
    for item in built.get("DimensionOrganizationSequence") or []:  # highdicom draws it at random
        real[item.DimensionOrganizationUID] = derive_uid("dimensions", built.SOPInstanceUID, root=uid_root)
    for item in built.get("ContributingEquipmentSequence") or []:
        if "ContributionDateTime" in item:
            item.ContributionDateTime = created.strftime("%Y%m%d%H%M%S%z")
    origins: dict[str, Origin] = {_placeholder("instance", n): header.origin for n, header in enumerate(headers)}
    _restore(built, real, origins, frames=False)
    keywords = copying.carried([first.dataset], copying.PATIENT + copying.STUDY)
    ds = copying.inherit(first.dataset, keywords)
    for element in correct_ambiguous_vr(built, True):  # dcmwrite does it only for re-encoded data sets
        if element.tag not in ds and element.keyword != copying.CHARSET:
            ds[element.tag] = element
    copying.copy_issuer(first.dataset, ds)
    set_times(ds, created, [first.dataset])
    state_deidentification(ds, [first.dataset])
    ds.ContentQualification = "RESEARCH"
    if any(header.synthetic for header in headers):
        ds.SyntheticData = "YES"  # PS3.3 C.12.1: what is derived from synthetic data is synthetic
    return ds


def _restore(ds: Dataset, real: Mapping[str, str], origins: Mapping[str, Origin], *, frames: bool) -> None:
    """Replace the placeholders in ``ds`` and the items below it; ``frames`` where references may name a frame."""
    for element in ds:
        if element.VR == "UI" and element.value in real:
            element.value = real[element.value]
        elif element.VR == "SQ":
            named = element.keyword in _IMAGE_REFERENCES or ds.get("ValueType") == "IMAGE"
            for item in element.value:
                _restore(item, real, origins, frames=named)
            if not named and element.keyword.startswith("Referenced"):
                _drop_repetitions(element.value)
    origin = origins.get(ds.get("ReferencedSOPInstanceUID", ""))
    if origin is not None:
        ds.ReferencedSOPClassUID, ds.ReferencedSOPInstanceUID = origin.class_uid, origin.instance_uid
        if frames and origin.frame is not None:
            ds.ReferencedFrameNumber = origin.frame


def _drop_repetitions(items: list[Dataset]) -> None:
    """Keep one reference per object: the frames of one multi-frame object are one."""
    seen: set[str] = set()
    for item in list(items):
        uid = item.get("ReferencedSOPInstanceUID")
        if uid in seen:
            items.remove(item)
        elif uid is not None:
            seen.add(uid)
