"""Sound files to damage: real slices where they are at hand, built ones always, in every transfer syntax."""

from io import BytesIO
from pathlib import Path

import numpy as np
from builders import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    J2K,
    J2K_LOSSY,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_LS_NEAR,
    RLE,
    make_mr,
    transcode,
)
from enhanced import LAYOUTS, make_enhanced
from pydicom import dcmread

from reacquire.dicom.selfcheck import sample
from reacquire.dicom.syntaxes import SYNTAXES

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "real-breast-mr" / "aera-axial"
WRITABLE = (EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN, RLE, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1)
WRITABLE += (JPEG_LS, JPEG_LS_NEAR, J2K, J2K_LOSSY)
CROP = 96


def seeds(*, real: bool = True) -> list[bytes]:
    """Every kind of input that is accepted: classic and Enhanced, in all syntaxes; the same list every time."""
    found = [make_mr(syntax=uid) for uid in WRITABLE]
    found += [sample(syntax) for syntax in SYNTAXES.values()]
    found += [make_enhanced(layout, syntax=uid) for layout in LAYOUTS for uid in (EXPLICIT, IMPLICIT, RLE, JPEG_LS)]
    if real and REAL.is_dir():
        files = sorted(REAL.glob("*.dcm"))
        found += [path.read_bytes() for path in files[:4]]
        for number, path in enumerate(files):
            cropped = crop(path.read_bytes())
            found += [transcode(cropped, WRITABLE[(number + shift) % len(WRITABLE)]) for shift in range(4)]
    return found


def crop(data: bytes) -> bytes:
    """The middle of a real slice under its own header: small enough for many runs."""
    ds = dcmread(BytesIO(data))
    pixels = ds.pixel_array
    row, column = ((side - CROP) // 2 for side in pixels.shape)
    ds.PixelData = np.ascontiguousarray(pixels[row : row + CROP, column : column + CROP]).astype("<u2").tobytes()
    ds.Rows = ds.Columns = CROP
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
