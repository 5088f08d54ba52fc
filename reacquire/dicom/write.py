"""A counterfactual as the bytes of a classic MR image: its pixels, its header (``derived``), its file (PS3.10)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from reacquire.dicom.checks import StoredFormat
from reacquire.dicom.derived import HeaderValues, derived_header
from reacquire.dicom.provenance import Provenance
from reacquire.dicom.quiet import neutral_warnings
from reacquire.dicom.read import SliceImage, rescaled_range
from reacquire.dicom.uids import derive_uid
from reacquire.dicom.watermark import burn_in

IMPLEMENTATION_CLASS_UID: UID = derive_uid("implementation class", "reacquire")
IMPLEMENTATION_VERSION_NAME = "REACQUIRE_1"


def write_counterfactual(
    source: SliceImage,
    pixels: NDArray[Any],
    *,
    provenance: Provenance,
    window: tuple[float, float] | None = None,
    header_values: HeaderValues = "target",
    watermark: bool = False,
    created: datetime | None = None,
) -> bytes:
    """A derived MR Image Storage file.

    Parameters
    ----------
    source : SliceImage
        The slice that was changed; geometry, patient and study are its own.
    pixels : (R, C) integer array
        In the source's stored orientation and unit, within ``source.stored_range``.
    window : (centre, width) or None
        Display window, best of the whole series (``series_window``); of this image when None.
    header_values : {"target", "source", "blank"}
        Which acquisition values the header states.
    watermark : bool
        Burn the warning into the pixels.
    created : datetime or None
        Time of creation, now (UTC) when None. UIDs do not depend on it.

    Raises
    ------
    ValueError
        For pixels of another shape, type or range: the caller's mistake.
    """
    low, high = rescaled_range(source.header.stored)
    if pixels.shape != source.pixels.shape or not np.issubdtype(pixels.dtype, np.integer):
        raise ValueError(f"pixels must be integers of shape {source.pixels.shape}, not {pixels.dtype} {pixels.shape}")
    if pixels.min() < low or pixels.max() > high:
        raise ValueError(f"pixels must lie between {low} and {high}")
    image = pixels.astype(np.int32)
    centre, width = series_window([image]) if window is None else window
    if watermark:
        image = burn_in(image, bright=min(high, round(centre + width / 2)))
    with neutral_warnings():
        ds = derived_header(
            source.header,
            provenance,
            header_values=header_values,
            watermark=watermark,
            created=created or datetime.now(UTC),
        )
        _set_pixels(ds, image, source.header.stored)
        ds.WindowCenter, ds.WindowWidth = f"{centre:.6g}", f"{max(width, 1.0):.6g}"
        return serialise(ds)


def series_window(images: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Window centre and width from the 1st to the 99.5th percentile of all images together."""
    low, high = np.percentile(np.concatenate([np.ravel(i) for i in images]), (1.0, 99.5))
    return float(low + high) / 2, float(max(high - low, 1.0))


def serialise(ds: Dataset) -> bytes:
    """A data set as an Explicit VR Little Endian Part 10 file with a zero preamble and our own meta information."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    ds.file_meta = meta
    ds.preamble = bytes(128)
    buffer = BytesIO()
    dcmwrite(buffer, ds, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def _set_pixels(ds: Dataset, image: NDArray[np.int32], stored: StoredFormat) -> None:
    """The Image Pixel module (PS3.3 C.7.6.3): the source's format, or all 16 bits where a rescale was applied."""
    signed, bits = stored.signed, stored.bits
    if (stored.slope, stored.intercept) != (1.0, 0.0):
        signed, bits = rescaled_range(stored)[0] < 0, 16
    ds.Rows, ds.Columns = image.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, int(signed)
    for keyword, value in (("SmallestImagePixelValue", image.min()), ("LargestImagePixelValue", image.max())):
        ds.add_new(keyword, "SS" if signed else "US", int(value))
    ds.add_new("PixelData", "OW", image.astype("<i2" if signed else "<u2").tobytes())
