"""The outermost layer: is this a DICOM Part 10 file that we open, and what does its meta information say.

Refuses by the first bytes and the file meta information only (PS3.10 section 7); inflates deflated data sets under a
cap. Archives are ``archive``'s, the data set itself is ``header``'s.
"""

import zlib
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from reacquire.dicom.limits import DEFAULT, Limits
from reacquire.dicom.quiet import neutral_warnings
from reacquire.dicom.scan import Layout
from reacquire.dicom.syntaxes import EIGHT_BIT_LOSSY, SYNTAXES, Syntax
from reacquire.dicom.values import text
from reacquire.errors import ContainerError, DatasetError, PixelError

PREAMBLE, MAGIC = 128, b"DICM"
DICOMDIR = "1.2.840.10008.1.3.10"

# A preamble may hold any 128 bytes; these make the file a program or an archive as well.
UNSAFE = (b"MZ", b"\x7fELF", b"#!", b"PK\x03\x04", b"\xfe\xed\xfa", b"\xca\xfe\xba\xbe")
UNSAFE_REVERSED = (b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")  # Mach-O, little endian
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}


@dataclass(frozen=True)
class Part10:
    """A DICOM file taken apart: its transfer syntax and its encoded data set, inflated where it was deflated."""

    syntax: Syntax
    body: bytes | memoryview


def is_part10(data: bytes) -> bool:
    """Whether the bytes carry the DICM prefix at offset 128."""
    return data[PREAMBLE : PREAMBLE + 4] == MAGIC


def is_zip(data: bytes) -> bool:
    """Whether the bytes begin as a zip archive does and are not a DICOM file."""
    return data.startswith(ZIP) and not is_part10(data)


def open_part10(data: bytes, *, limits: Limits = DEFAULT) -> Part10:
    """Check preamble, prefix and file meta information of one file.

    Raises
    ------
    ContainerError
        With the code of the first rule that the bytes break.
    PixelError
        ``lossy-source`` for the 8-bit lossy JPEG syntax.
    """
    if not data:
        raise ContainerError("the body is empty; send the bytes of one DICOM file", code="empty-body")
    if len(data) > limits.instance_bytes:
        raise ContainerError(f"a file may have at most {limits.instance_bytes} bytes", code="too-large")
    if not is_part10(data):
        raise _not_part10(data)
    if data.startswith(UNSAFE + UNSAFE_REVERSED):
        raise ContainerError("the preamble is that of a program or an archive; zero it", code="unsafe-preamble")
    meta, start = _file_meta(data)
    if text(meta, "MediaStorageSOPClassUID") == DICOMDIR:
        raise ContainerError("a DICOMDIR is an index, not an image; send the images", code="dicomdir-not-accepted")
    syntax = _syntax(text(meta, "TransferSyntaxUID"))
    body = memoryview(data)[start:]  # a view: uploads may be large and the API process is small
    return Part10(syntax, _inflate(body, limits) if syntax.deflated else body)


def parse(part10: Part10, layout: Layout) -> Dataset:
    """The elements before the pixel data; the scan has bounded what the parser will meet.

    Raises
    ------
    DatasetError
        ``corrupt-dataset``.
    """
    syntax = part10.syntax
    stream = BytesIO(part10.body[: layout.header_end])
    try:
        with neutral_warnings():
            return read_dataset(stream, syntax.implicit, syntax.little_endian)
    except Exception as error:  # pydicom's parser raises many kinds on hostile bytes, all of them the file's fault
        raise DatasetError("the data set cannot be parsed", code="corrupt-dataset") from error


def _file_meta(data: bytes) -> tuple[Dataset, int]:
    """Group 0002, which is always Explicit VR Little Endian, and the offset behind it."""
    stream = BytesIO(data)
    stream.seek(PREAMBLE + 4)
    try:
        with neutral_warnings():
            meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    except Exception as error:  # pydicom's parser raises many kinds on hostile bytes, all of them the file's fault
        raise DatasetError("the file meta information cannot be read", code="corrupt-dataset") from error
    return meta, stream.tell()


def _syntax(uid: str | None) -> Syntax:
    if uid in EIGHT_BIT_LOSSY:
        raise PixelError("8-bit lossy JPEG has lost what is measured here; send the original", code="lossy-source")
    if uid not in SYNTAXES:
        accepted = ", ".join(s.name for s in SYNTAXES.values())
        raise ContainerError(
            f"the transfer syntax is absent or not one of: {accepted}",
            code="unsupported-transfer-syntax",
            where="TransferSyntaxUID",
        )
    return SYNTAXES[uid]


def _inflate(body: memoryview, limits: Limits) -> bytes:
    """Raw deflate (PS3.5 A.5) under the cap of one file: pydicom itself inflates without bound."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(body, limits.instance_bytes)
    except zlib.error as error:
        raise DatasetError("the deflated data set is damaged", code="corrupt-dataset") from error
    if inflater.unconsumed_tail or (not inflater.eof and len(inflated) >= limits.instance_bytes):
        raise ContainerError(f"the data set inflates beyond {limits.instance_bytes} bytes", code="decompression-limit")
    return inflated


def _not_part10(data: bytes) -> ContainerError:
    if data.startswith(ZIP):
        return ContainerError("an archive where one DICOM file is expected", code="unsupported-container")
    for magic, name in PACKED.items():
        if data.startswith(magic):
            return ContainerError(f"{name} is not opened; send DICOM or a zip", code="unsupported-container")
    if _looks_like_dataset(data):
        return ContainerError("a data set without preamble and file meta information", code="not-part10")
    return ContainerError("not a DICOM file (no DICM prefix at offset 128)", code="not-dicom")


def _looks_like_dataset(data: bytes) -> bool:
    """Starts with an element of group 0002 or 0008, little or big endian, with a plausible VR or a short length."""
    if len(data) < 8 or data[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08"):
        return False
    vr, length = data[4:6], int.from_bytes(data[4:8], "little")
    return (vr.isalpha() and vr.isupper()) or length <= 1024
