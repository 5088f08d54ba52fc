"""Small synthetic DICOM files for tests: a sound MR slice, and every way to spoil it."""

import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread, dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID

EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN = (
    f"1.2.840.10008.1.2{end}" for end in (".1", "", ".1.99", ".2")
)  # fmt: skip
RLE, JPEG_LS, JPEG_LS_NEAR, J2K, J2K_LOSSY = (
    f"1.2.840.10008.1.2.{end}" for end in ("5", "4.80", "4.81", "4.90", "4.91")
)
JPEG_LOSSLESS, JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"

SECRET = "SECRET"  # every identifying value of a built file contains it
ABSENT = object()  # as a value: leave the element out

SOUND: dict[str, Any] = {
    "ImageType": ["ORIGINAL", "PRIMARY", "M"],
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
    "SOPInstanceUID": "1.2.3.4.1",
    "StudyInstanceUID": "1.2.3.2",
    "SeriesInstanceUID": "1.2.3.3",
    "FrameOfReferenceUID": "1.2.3.5",
    "StudyDate": "20200102",
    "StudyTime": "101112",
    "StudyID": "1",
    "SeriesNumber": 7,
    "SeriesDescription": f"t1 {SECRET}",
    "StudyDescription": f"MAMMA {SECRET}",
    "AccessionNumber": f"{SECRET}3",
    "ReferringPhysicianName": f"{SECRET}^Doctor",
    "PatientName": f"{SECRET}^Name",
    "PatientID": f"{SECRET}1",
    "PatientBirthDate": "19700101",
    "PatientSex": "F",
    "Modality": "MR",
    "Manufacturer": "SIEMENS",
    "ManufacturerModelName": "Skyra",
    "DeviceSerialNumber": f"{SECRET}2",
    "BodyPartExamined": "BREAST",
    "ScanningSequence": "GR",
    "SequenceVariant": ["SP", "OSP"],
    "ScanOptions": ["PFP", "SFS"],
    "MRAcquisitionType": "3D",
    "MagneticFieldStrength": "2.8936",
    "FlipAngle": "10",
    "SliceThickness": "1.1000000238419",
    "EchoTime": "1.42",
    "RepetitionTime": "4.05",
    "EchoTrainLength": "1",
    "ProtocolName": f"protocol {SECRET}",
    "PatientPosition": "HFP",
    "PositionReferenceIndicator": "",
    "InstanceNumber": 1,
    "ImagePositionPatient": ["-100.5", "-90.25", "12.5"],
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "PixelSpacing": ["1.25", "1.5"],
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "PixelRepresentation": 0,
}


def make_pixels(rows: int = 48, columns: int = 64) -> NDArray[np.uint16]:
    """An asymmetric 12-bit image: a ramp with a bright marker near the first row and column."""
    row, column = np.mgrid[:rows, :columns]
    pixels = (100 + 7 * row + 11 * column).astype(np.uint16)
    pixels[3:9, 5:8] = 3000
    return pixels


def make_dataset(pixels: NDArray[Any] | None = None, **changes: Any) -> Dataset:
    """A complete classic breast MR slice in memory (Explicit VR Little Endian).

    ``changes`` replace elements by keyword: ``ABSENT`` leaves one out, bytes are written as they are.
    """
    pixels = make_pixels() if pixels is None else pixels
    values = {
        **SOUND,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "PixelData": pixels.astype("<u2").tobytes(),
        **changes,
    }
    ds = Dataset()
    for keyword, value in values.items():
        tag, vr = Tag(tag_for_keyword(keyword) or 0), dictionary_VR(keyword)
        if value is ABSENT:
            continue
        if keyword == "PixelData":
            ds.add_new(tag, "OW", value)
        elif isinstance(value, bytes):
            ds[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
        else:
            ds.add_new(tag, vr, value)
    ds.set_original_encoding(False, True, "iso8859")  # raw elements are then written as they are
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    ds.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.4")
    ds.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4.1")
    return ds


def to_bytes(ds: Dataset) -> bytes:
    """A data set as a Part 10 file in the syntax of its meta information."""
    syntax = UID(ds.file_meta.TransferSyntaxUID)
    buffer = BytesIO()
    dcmwrite(
        buffer,
        ds,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    return buffer.getvalue()


def make_mr(
    pixels: NDArray[Any] | None = None, *, syntax: str = EXPLICIT, preamble: bytes = b"", **changes: Any
) -> bytes:
    """The bytes of a breast MR slice, sound unless ``changes`` say otherwise (see ``make_dataset``).

    ``syntax`` is any native syntax, or one that an installed encoder writes; ``preamble`` begins the file.
    """
    data = _encoded(make_dataset(pixels, **changes), syntax)
    return preamble + data[len(preamble) :]


def transcode(data: bytes, syntax: str) -> bytes:
    """A file in Explicit VR Little Endian in another syntax, its header otherwise as it was."""
    return _encoded(dcmread(BytesIO(data)), syntax)


def _encoded(ds: Dataset, syntax: str) -> bytes:
    if syntax in (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1):
        return _jpeg_lossless(to_bytes(ds), syntax)
    if syntax in (RLE, JPEG_LS, JPEG_LS_NEAR, J2K, J2K_LOSSY):
        _compress(ds, syntax)
    elif syntax == BIG_ENDIAN:
        ds["PixelData"].value = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return to_bytes(ds)


def make_series(count: int, *, spacing_mm: float = 2.0, **changes: Any) -> list[bytes]:
    """``count`` slices of one series, ascending in z."""
    return [
        make_mr(
            make_pixels() + np.uint16(n),
            SOPInstanceUID=f"1.2.3.4.{n + 1}",
            InstanceNumber=n + 1,
            ImagePositionPatient=["-100.5", "-90.25", str(12.5 + n * spacing_mm)],
            **changes,
        )
        for n in range(count)
    ]


def read_back(data: bytes) -> Dataset:
    """The written file with every value converted, so that an invalid one shows."""
    ds = dcmread(BytesIO(data))
    for element in ds.iterall():
        _ = element.value
    return ds


def _compress(ds: Dataset, syntax: str) -> None:
    extra: dict[str, Any] = {JPEG_LS_NEAR: {"jls_error": 2}, J2K_LOSSY: {"j2k_psnr": [60]}}.get(syntax, {})
    ds.compress(UID(syntax), generate_instance_uid=False, **extra)


def _jpeg_lossless(data: bytes, syntax: str) -> bytes:
    """Transcode with GDCM, the only encoder of these syntaxes at hand."""
    import gdcm

    kind = {
        JPEG_LOSSLESS: gdcm.TransferSyntax.JPEGLosslessProcess14,
        JPEG_LOSSLESS_SV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.dcm"), Path(folder, "target.dcm")
        source.write_bytes(data)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(kind[syntax]))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return target.read_bytes()
