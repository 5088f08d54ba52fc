"""The rules that a header must meet, one function each, in the order in which ``header`` applies them.

Each raises the error of its rule or returns what it learnt; none looks at pixels. Row numbers are those of the table of
bad input that `tests/reacquire/dicom/test_dicom_refusals.py` holds, one case or more per row.
"""

import math
import re
from dataclasses import dataclass

from pydicom.charset import python_encoding
from pydicom.dataset import Dataset

from reacquire.dicom import values
from reacquire.dicom.limits import Limits
from reacquire.dicom.scan import Layout
from reacquire.errors import DatasetError, PixelError, SuitabilityError
from reacquire.imaging.geometry import tilt_degrees

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
MAX_TILT_DEGREES = 10.0

# Values of ImageType that name something other than a magnitude image of one slice (row 29).
UNSUITABLE_TYPES = frozenset(
    {"MOSAIC", "VFRAME", "LOCALIZER", "MIP", "MPR_MIP", "PROJECTION", "SCREEN"}
    | {"P", "PHASE", "PHASE_MAP", "VELOCITY", "R", "REAL", "I", "IMAGINARY"}
    | {"ADC", "FA", "TRACEW", "DIFFUSION", "MAP", "T1_MAP", "T2_MAP", "T2_STAR_MAP"}
)
OWN_TYPES = frozenset({"SYNTHETIC", "COUNTERFACTUAL"})


@dataclass(frozen=True)
class StoredFormat:
    """How the file stores a pixel, and what a stored value means (PS3.3 C.7.6.3, C.11.1).

    Attributes
    ----------
    bits : int
        BitsStored, 9 to 16, in 16 allocated bits.
    signed, inverted : bool
        Two's complement; MONOCHROME1, where the smallest value is shown white.
    slope, intercept : float
        The rescale that is applied on reading. A slope below 1 would merge grey levels when the result is rounded, so
        it counts as 1 and 0 (see ``check_rescale``).
    """

    bits: int
    signed: bool
    inverted: bool
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest storable value, before the rescale."""
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.signed else (0, (1 << self.bits) - 1)


@dataclass(frozen=True)
class Geometry:
    """Where the slice lies, LPS millimetres."""

    iop: tuple[float, ...]
    ipp: tuple[float, ...]
    spacing: tuple[float, ...]


def check_pixels_present(ds: Dataset, layout: Layout) -> None:
    """Row 9: an object without image (a report, raw data) is no candidate, whatever its other attributes."""
    if layout.pixels is None and values.text(ds, "SOPClassUID") not in (None, MR_IMAGE):
        raise PixelError("this object has no PixelData", code="no-pixels", where="PixelData")


def check_kind(ds: Dataset) -> None:
    """Rows 26 and 29: a classic MR image of a kind that was acquired as one slice."""
    for keyword in ("SOPClassUID", "Modality"):
        require(ds, keyword)
    if values.codes(ds, "Modality") != ("MR",):
        raise SuitabilityError("Modality must be MR", code="unsupported-modality", where="Modality")
    if values.text(ds, "SOPClassUID") != MR_IMAGE:
        # Enhanced MR arrives here only past ``archive.unpack``, which makes one classic file of each of its frames.
        raise SuitabilityError(
            "only MR and Enhanced MR Image Storage are read", code="unsupported-image-type", where="SOPClassUID"
        )
    words = {w for v in values.codes(ds, "ImageType") for w in (v, *re.split(r"[ /]", v))}
    if words & UNSUITABLE_TYPES:
        raise SuitabilityError(
            "ImageType names a localiser, mosaic, projection, map or phase image; a magnitude slice is needed",
            code="unsupported-image-type",
            where="ImageType",
        )


def check_synthetic(ds: Dataset, *, allowed: bool) -> bool:
    """Row 33: whether the object says that it is synthetic; refused unless ``allowed``."""
    synthetic = values.codes(ds, "SyntheticData") == ("YES",) or bool(OWN_TYPES & set(values.codes(ds, "ImageType")))
    if synthetic and not allowed:
        raise SuitabilityError(
            "this image is itself synthetic; send the acquired one, or ask for it (allow_synthetic, --allow-synthetic)",
            code="already-synthetic",
            where="SyntheticData",
        )
    return synthetic


def check_body_part(ds: Dataset) -> tuple[str, ...]:
    """Row 27: BREAST; an absent value is a warning."""
    part = values.text(ds, "BodyPartExamined")
    if part is None:
        return ("BodyPartExamined is absent; the image is taken to be a breast MR",)
    if part.upper() != "BREAST":
        raise SuitabilityError("only BREAST is supported", code="unsupported-body-part", where="BodyPartExamined")
    return ()


def check_uids(ds: Dataset) -> None:
    """Rows 7 and 37: the identity of instance, series and study."""
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        require(ds, keyword)
        values.uid(ds, keyword)


def check_geometry(ds: Dataset) -> Geometry:
    """Rows 28 and 30: complete, orthonormal, axial within 10 degrees."""
    if values.uid(ds, "FrameOfReferenceUID") is None:
        raise _no_geometry("FrameOfReferenceUID")
    iop, ipp = _vector(ds, "ImageOrientationPatient", 6), _vector(ds, "ImagePositionPatient", 3)
    spacing = _vector(ds, "PixelSpacing", 2)
    if min(spacing) <= 0:
        raise values.malformed("PixelSpacing", "must be positive")
    row, column = iop[:3], iop[3:]
    skew = abs(sum(a * b for a, b in zip(row, column, strict=True)))
    if abs(math.hypot(*row) - 1) > 1e-3 or abs(math.hypot(*column) - 1) > 1e-3 or skew > 1e-3:
        raise values.malformed("ImageOrientationPatient", "must hold two orthogonal unit vectors")
    if tilt_degrees(iop) > MAX_TILT_DEGREES:
        raise SuitabilityError(
            f"the slice must be axial within {MAX_TILT_DEGREES:g} degrees",
            code="unsupported-orientation",
            where="ImageOrientationPatient",
        )
    return Geometry(iop, ipp, spacing)


def check_format(ds: Dataset) -> StoredFormat:
    """Rows 20 to 22: 16-bit grey."""
    photometric = values.codes(ds, "PhotometricInterpretation")
    if not photometric:
        raise _missing("PhotometricInterpretation")
    if photometric[0] not in ("MONOCHROME1", "MONOCHROME2") or unsigned(ds, "SamplesPerPixel") != 1:
        raise PixelError(
            "only MONOCHROME1 and MONOCHROME2 with one sample per pixel are read",
            code="unsupported-photometric",
            where="PhotometricInterpretation",
        )
    bits, allocated = unsigned(ds, "BitsStored"), unsigned(ds, "BitsAllocated")
    if allocated == 8 or (allocated == 16 and 1 <= bits <= 8):
        raise PixelError("8 bits hold too few grey levels; send the original", code="lossy-source", where="BitsStored")
    if allocated != 16:
        raise bad_image("BitsAllocated", "must be 16")
    if not 9 <= bits <= 16:
        raise bad_image("BitsStored", "must be at most BitsAllocated")
    if unsigned(ds, "HighBit") != bits - 1:
        raise bad_image("HighBit", "must be BitsStored - 1")
    representation = unsigned(ds, "PixelRepresentation")
    if representation not in (0, 1):
        raise bad_image("PixelRepresentation", "must be 0 or 1")
    return StoredFormat(bits, representation == 1, photometric[0] == "MONOCHROME1")


def check_single_frame(ds: Dataset) -> None:
    """Row 19: a classic MR image has one frame."""
    frames = values.texts(ds, "NumberOfFrames")
    if frames and frames != ("1",):
        raise bad_image("NumberOfFrames", "must be 1 in a classic MR image")


def check_rescale(ds: Dataset, stored: StoredFormat) -> tuple[StoredFormat, tuple[str, ...]]:
    """The rescale of the slice, or a warning that it is left out because whole numbers could not hold its result."""
    slope, intercept = values.number(ds, "RescaleSlope"), values.number(ds, "RescaleIntercept")
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if slope <= 0:
        raise values.malformed("RescaleSlope", "must be positive")
    rescaled = StoredFormat(stored.bits, stored.signed, stored.inverted, slope, intercept)
    low, high = (v * slope + intercept for v in stored.range)
    left_out = "RescaleSlope and RescaleIntercept are not applied: "
    if slope < 1:
        return stored, (left_out + "a slope below 1 would merge grey levels",)
    if (low < 0 and (low < -(2**15) or high > 2**15 - 1)) or high > 2**16 - 1:
        return stored, (left_out + "the result does not fit into 16-bit integers",)
    return rescaled, ()


def check_size(ds: Dataset, layout: Layout, limits: Limits) -> tuple[int, int]:
    """Rows 8, 9, 10, 11, 14, 16 and 18: Rows and Columns that agree with the bytes that are there."""
    rows, columns = (values.unsigned(ds, k) for k in ("Rows", "Columns"))
    for keyword, side in (("Rows", rows), ("Columns", columns)):
        if not side:
            raise bad_image(keyword, "must be present and positive")
    assert rows and columns  # both were checked by the loop
    if layout.pixels is None:
        raise PixelError("this object has no PixelData", code="no-pixels", where="PixelData")
    start, stop = layout.pixels
    if stop == start:
        raise PixelError("PixelData is empty", code="truncated-pixels", where="PixelData")
    if not layout.encapsulated and stop - start < 2 * rows * columns:
        if max(rows, columns) > limits.side:
            raise bad_image("Rows", f"and Columns must be at most {limits.side}, and PixelData must fill them")
        raise PixelError("PixelData is shorter than Rows x Columns", code="truncated-pixels", where="PixelData")
    if 2 * rows * columns > limits.pixel_bytes or max(rows, columns) > limits.side:
        raise PixelError(
            f"an image may have at most {limits.side} rows or columns and {limits.pixel_bytes} bytes",
            code="image-too-large",
            where="Rows",
        )
    return rows, columns


def check_framing(layout: Layout, *, native: bool) -> None:
    """Rows 11 and 14: encapsulated exactly when the transfer syntax says so."""
    if layout.pixels is None or layout.encapsulated != native:
        return
    if native:
        raise DatasetError(
            "PixelData of undefined length in an uncompressed syntax",
            code="corrupt-dataset",
            where="PixelData",
        )
    raise PixelError(
        "PixelData is not encapsulated as the transfer syntax says", code="corrupt-pixels", where="PixelData"
    )


def check_lossy(ds: Dataset, *, syntax_lossy: bool) -> tuple[str, ...]:
    """Row 22: a 16-bit image that was compressed with loss is used, with a warning."""
    if syntax_lossy or values.text(ds, "LossyImageCompression") == "01":
        return ("the image was compressed with loss; detail may be an artefact",)
    return ()


def check_charset(ds: Dataset) -> tuple[str, ...]:
    """Row 42: an unknown repertoire is a warning, unless it makes PatientID ambiguous."""
    if all(v in python_encoding for v in values.texts(ds, "SpecificCharacterSet")):
        return ()
    if not (values.raw(ds, "PatientID") or b"").isascii():
        raise DatasetError(
            "SpecificCharacterSet is unknown and PatientID needs it", code="charset", where="SpecificCharacterSet"
        )
    return ("SpecificCharacterSet is unknown; names may be shown wrongly",)


def require(ds: Dataset, keyword: str) -> None:
    """Raise ``missing-attribute`` when the element is absent or empty (row 7)."""
    if values.raw(ds, keyword) is None:
        raise _missing(keyword)


def unsigned(ds: Dataset, keyword: str) -> int:
    """A required US value."""
    value = values.unsigned(ds, keyword)
    if value is None:
        raise _missing(keyword)
    return value


def bad_image(keyword: str, rule: str) -> PixelError:
    """The error for an attribute of the Image Pixel module that breaks a rule."""
    return PixelError(f"{keyword} {rule}", code="invalid-image-attributes", where=keyword)


def _missing(keyword: str) -> DatasetError:
    return DatasetError(f"{keyword} is absent or empty", code="missing-attribute", where=keyword)


def _no_geometry(keyword: str) -> DatasetError:
    return DatasetError(f"{keyword} is absent or empty", code="missing-geometry", where=keyword)


def _vector(ds: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    vector = values.numbers(ds, keyword, count)
    if vector is None:
        raise _no_geometry(keyword)
    return vector
