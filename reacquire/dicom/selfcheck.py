"""Does every transfer syntax that we say we read really come out right here? One known picture through each decoder.

An installed codec is not a working one: wrong builds decode to swapped bytes without an error. Quick (a few
milliseconds per syntax) and free of torch, so that start-up and readiness can ask.
"""

from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from types import MappingProxyType

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from reacquire.dicom import samples
from reacquire.dicom.checks import MR_IMAGE
from reacquire.dicom.decode import decode_words
from reacquire.dicom.header import open_slice
from reacquire.dicom.quiet import neutral_warnings
from reacquire.dicom.syntaxes import SYNTAXES, Syntax
from reacquire.errors import OverloadedError, ReacquireError

_ATTRIBUTES = {
    "SOPClassUID": MR_IMAGE,
    "SOPInstanceUID": "2.25.1",
    "StudyInstanceUID": "2.25.2",
    "SeriesInstanceUID": "2.25.3",
    "FrameOfReferenceUID": "2.25.4",
    "ImageType": ["ORIGINAL", "PRIMARY", "M"],
    "Modality": "MR",
    "BodyPartExamined": "BREAST",
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "ImagePositionPatient": ["0", "0", "0"],
    "PixelSpacing": ["1", "1"],
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "Rows": samples.ROWS,
    "Columns": samples.COLUMNS,
    "BitsAllocated": 16,
    "BitsStored": samples.BITS,
    "HighBit": samples.BITS - 1,
    "PixelRepresentation": 0,
}


def self_check() -> Mapping[str, str]:
    """What is wrong with which accepted syntax, by its UID; empty on a sound installation."""
    found = {uid: _reason(uid) for uid in SYNTAXES}
    return MappingProxyType({uid: reason for uid, reason in found.items() if reason is not None})


@lru_cache(maxsize=64)
def check_syntax(uid: str) -> str | None:
    """Why one accepted syntax cannot be read here, None when it can. Asked once per process and syntax.

    Raises
    ------
    OverloadedError
        When that cannot be told now; the answer is not kept then.
    """
    syntax = SYNTAXES[uid]
    try:
        words = decode_words(open_slice(sample(syntax)))
    except OverloadedError:
        raise
    except ReacquireError as error:
        return error.detail
    error_allowed = samples.LARGEST_ERROR.get(uid, 0)
    worst = np.abs(words - samples.picture().astype(np.int32)).max()
    return "its decoder gives wrong pixels" if worst > error_allowed else None


def _reason(uid: str) -> str | None:
    try:
        return check_syntax(uid)
    except OverloadedError as error:
        return error.detail


def sample(syntax: Syntax) -> bytes:
    """The picture as a Part 10 file of one syntax."""
    ds = Dataset()
    for keyword, value in _ATTRIBUTES.items():
        setattr(ds, keyword, value)
    if syntax.codec == "native":
        order = "<u2" if syntax.little_endian else ">u2"
        ds.add_new(0x7FE00010, "OW", samples.picture().astype(order).tobytes())
    else:
        ds.add_new(0x7FE00010, "OB", encapsulate([samples.stream_of(str(syntax.uid))]))
        ds["PixelData"].is_undefined_length = True
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax.uid
    buffer = BytesIO()
    with neutral_warnings():
        dcmwrite(buffer, ds, implicit_vr=syntax.implicit, little_endian=syntax.little_endian, enforce_file_format=True)
    return buffer.getvalue()
