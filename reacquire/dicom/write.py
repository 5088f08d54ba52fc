"""Counterfactuals as the bytes of DICOM files: pixels, header (``derived`` or ``capture``), file (PS3.10)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from reacquire.dicom.capture import capture_header
from reacquire.dicom.checks import StoredFormat
from reacquire.dicom.derived import derived_header
from reacquire.dicom.header import Header
from reacquire.dicom.padding import padding_kept, padding_range
from reacquire.dicom.provenance import Provenance
from reacquire.dicom.quiet import neutral_warnings
from reacquire.dicom.read import SliceImage, rescaled_range
from reacquire.dicom.series import inconsistent
from reacquire.dicom.synthetic import Derivation, Form, OutputClass, now
from reacquire.dicom.uids import derive_uid
from reacquire.dicom.watermark import burn_in

IMPLEMENTATION_CLASS_UID: UID = derive_uid("implementation class", "reacquire")
IMPLEMENTATION_VERSION_NAME = "REACQUIRE_1"
HEADERS: dict[OutputClass, Callable[[Derivation, Header], Dataset]] = {
    "mr": derived_header,
    "secondary-capture": capture_header,
}


def write_series(
    sources: Sequence[SliceImage],
    images: Sequence[NDArray[Any]],
    *,
    provenance: Provenance,
    form: Form | None = None,
    window: tuple[float, float] | None = None,
    created: datetime | None = None,
) -> list[bytes]:
    """The counterfactuals of one series as files, every one with the same attributes.

    Parameters
    ----------
    sources : sequence of SliceImage
        The slices that were changed; geometry, patient and study are their own.
    images : as many (R, C) integer arrays
        In the stored orientation and unit of each source, within its ``stored_range``.
    form : Form or None
        MR images with the target's values and no watermark when None.
    window : (centre, width) or None
        Display window; ``series_window`` of the images when None.
    created : datetime or None
        Time of creation, now (UTC) when None. UIDs do not depend on it.

    Returns
    -------
    list of bytes
        One Part 10 file per source, in the same order.

    Raises
    ------
    ValueError
        For pixels of another shape, type or range, or another number of them: the caller's mistake.
    PixelError
        ``invalid-image-attributes`` for an image that is too small for the watermark.
    """
    for source, pixels in zip(sources, images, strict=True):
        _check_pixels(source, pixels)
    window = window or series_window(images)
    form = form or Form()
    bright = round(window[0] + window[1] / 2)
    images = [
        burn_in(pixels.astype(np.int32), bright=min(rescaled_range(source.header.stored)[1], bright))
        if form.watermark
        else pixels.astype(np.int32)
        for source, pixels in zip(sources, images, strict=True)
    ]
    headers = tuple(source.header for source in sources)
    derivation = Derivation(headers, provenance, form, created or now(), window)
    padded = all(padding_kept(source, pixels) for source, pixels in zip(sources, images, strict=True))
    extremes = int(min(i.min() for i in images)), int(max(i.max() for i in images))
    stored = output_format(headers, extremes)
    files = []
    for header, pixels in zip(headers, images, strict=True):
        with neutral_warnings():  # slice by slice: threads take turns here
            ds = HEADERS[form.output_class](derivation, header)
            _set_pixels(ds, pixels, stored)
            _set_display(ds, window, extremes, padding_range(header) if padded else None)
            files.append(serialise(ds))
    return files


def write_counterfactual(
    source: SliceImage,
    pixels: NDArray[Any],
    *,
    provenance: Provenance,
    form: Form | None = None,
    window: tuple[float, float] | None = None,
    created: datetime | None = None,
) -> bytes:
    """``write_series`` for a series of one slice."""
    return write_series([source], [pixels], provenance=provenance, form=form, window=window, created=created)[0]


def series_window(images: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Window centre and width from the 1st to the 99.5th percentile of all images together."""
    low, high = np.percentile(np.concatenate([np.ravel(i) for i in images]), (1.0, 99.5))
    return float(low + high) / 2, float(max(high - low, 1.0))


def output_format(headers: Sequence[Header], extremes: tuple[int, int]) -> StoredFormat:
    """How the results of a series are stored: as their sources, or in 16 bits where those were rescaled or differ.

    Parameters
    ----------
    extremes : (int, int)
        Smallest and largest pixel of the series.

    Raises
    ------
    DatasetError
        ``inconsistent-series`` for slices that no common format holds.
    """
    formats = {_own_format(header.stored) for header in headers}
    if len(formats) == 1:
        return formats.pop()
    common = StoredFormat(16, signed=extremes[0] < 0, inverted=False)
    if extremes[1] > common.range[1]:
        raise inconsistent("the slices differ in how they store pixels", "PixelRepresentation")
    return common


def _own_format(stored: StoredFormat) -> StoredFormat:
    if (stored.slope, stored.intercept) == (1.0, 0.0):
        return replace(stored, inverted=False)
    return StoredFormat(16, signed=rescaled_range(stored)[0] < 0, inverted=False)


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


def _check_pixels(source: SliceImage, pixels: NDArray[Any]) -> None:
    low, high = rescaled_range(source.header.stored)
    if pixels.shape != source.pixels.shape or not np.issubdtype(pixels.dtype, np.integer):
        raise ValueError(f"pixels must be integers of shape {source.pixels.shape}, not {pixels.dtype} {pixels.shape}")
    if pixels.min() < low or pixels.max() > high:
        raise ValueError(f"pixels must lie between {low} and {high}")


def _set_pixels(ds: Dataset, image: NDArray[np.int32], stored: StoredFormat) -> None:
    """The Image Pixel module (PS3.3 C.7.6.3)."""
    ds.Rows, ds.Columns = image.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, stored.bits, stored.bits - 1
    ds.PixelRepresentation = int(stored.signed)
    _set_values(ds, ("SmallestImagePixelValue", "LargestImagePixelValue"), (int(image.min()), int(image.max())))
    ds.add_new("PixelData", "OW", image.astype("<i2" if stored.signed else "<u2").tobytes())


def _set_display(
    ds: Dataset, window: tuple[float, float], extremes: tuple[int, int], padding: tuple[int, int] | None
) -> None:
    """What viewers map to grey: the same for all instances, lest they flicker; padding only where it survived."""
    ds.WindowCenter, ds.WindowWidth = f"{window[0]:.6g}", f"{max(window[1], 1.0):.6g}"
    _set_values(ds, ("SmallestPixelValueInSeries", "LargestPixelValueInSeries"), extremes)
    if padding is not None:
        keywords = ("PixelPaddingValue", "PixelPaddingRangeLimit")
        _set_values(ds, keywords[: len(set(padding))], padding)


def _set_values(ds: Dataset, keywords: tuple[str, ...], values: tuple[int, int]) -> None:
    """Elements that hold pixel values, US or SS as the pixels are; pydicom resolves that only when it re-encodes."""
    for keyword, value in zip(keywords, values, strict=False):
        ds.add_new(keyword, "SS" if ds.PixelRepresentation else "US", value)
