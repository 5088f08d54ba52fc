"""The header of a counterfactual as Secondary Capture (PS3.3 A.8.1): for sites whose MR receivers must never get one.

Modality and SOP class say that it is no acquisition. It has neither acquisition values nor a place in the patient's
space, which receivers of the class do not expect: the source that it refers to has them.
"""

from pydicom.dataset import Dataset

from reacquire.dicom import copying
from reacquire.dicom.header import Header
from reacquire.dicom.synthetic import MANUFACTURER, MODEL, Derivation, mark_as_synthetic

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
KEYWORDS = (
    *copying.PATIENT,
    *copying.STUDY,
    "PatientPosition",
    "InstanceNumber",
    "BodyPartExamined",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_SIDES = (("L", "R"), ("P", "A"), ("H", "F"))  # of +x, -x, +y, -y, +z, -z in LPS
_VISIBLE = 0.0349  # sine of 2 degrees: a smaller part of a direction is not worth a letter


def capture_header(derivation: Derivation, header: Header) -> Dataset:
    """Everything but the Image Pixel module of a counterfactual as Secondary Capture.

    Parameters
    ----------
    header : Header
        Of the source slice, one of ``derivation.headers``.
    """
    ds = copying.inherit(header.dataset, derivation.carried(KEYWORDS))
    ds.SOPClassUID, ds.Modality = SECONDARY_CAPTURE, "OT"
    mark_as_synthetic(ds, derivation, header)
    ds.ConversionType = "SYN"  # synthetic image (PS3.3 C.8.6.1)
    ds.SecondaryCaptureDeviceManufacturer, ds.SecondaryCaptureDeviceManufacturerModelName = MANUFACTURER, MODEL
    ds.SecondaryCaptureDeviceSoftwareVersions = derivation.provenance.software()
    ds.PatientOrientation = list(patient_orientation(header.geometry.iop))
    return ds


def patient_orientation(iop: tuple[float, ...]) -> tuple[str, str]:
    """Where rows and columns of the image run to, as letters (PS3.3 C.7.6.1.1.1): ``("L", "P")`` when axial.

    Parameters
    ----------
    iop : tuple of 6 floats
        ImageOrientationPatient: direction cosines of the rows, then of the columns, LPS.
    """
    return _letters(iop[:3]), _letters(iop[3:])


def _letters(direction: tuple[float, ...]) -> str:
    """The sides that a direction points to, the main one first, as many as are visible."""
    order = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    return "".join(_SIDES[axis][direction[axis] < 0] for axis in order if abs(direction[axis]) > _VISIBLE)
