"""Pixel data -> stored integers, through one decoder per transfer syntax; every failure becomes a PixelError.

Bounds were checked before (``checks``, ``codestream``). Meaning (inversion, rescale) is ``read``'s.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from reacquire.dicom.checks import StoredFormat
from reacquire.dicom.codestream import check_codestream, corrupt, decode_rle, join_fragments
from reacquire.dicom.header import Opened
from reacquire.dicom.quiet import neutral_warnings
from reacquire.dicom.syntaxes import Syntax
from reacquire.errors import ContainerError


def decode(opened: Opened) -> NDArray[np.int32]:
    """The stored values of a checked file.

    Returns
    -------
    (R, C) int32
        Sign-extended from BitsStored; bits above it (overlays of old files) are dropped.

    Raises
    ------
    PixelError
        ``corrupt-pixels`` or ``truncated-pixels``.
    ContainerError
        ``unsupported-transfer-syntax`` when the decoder is not installed.
    """
    header, syntax = opened.header, opened.part10.syntax
    start, stop = opened.layout.pixels or (0, 0)
    encoded = opened.part10.body[start:stop]
    shape = (header.rows, header.columns)
    if syntax.codec == "native":
        order = "<u2" if syntax.little_endian else ">u2"
        return _sign_extend(np.frombuffer(encoded, order, count=shape[0] * shape[1]).reshape(shape), header.stored)
    stream = join_fragments(encoded)
    check_codestream(syntax.codec, stream, rows=shape[0], columns=shape[1], bits=header.stored.bits)
    if syntax.codec == "rle":
        words = np.frombuffer(decode_rle(stream, rows=shape[0], columns=shape[1]), "<u2").reshape(shape)
    else:
        words = _decompress(stream, syntax, shape, header.stored)
    return _sign_extend(words, header.stored)


def _decompress(stream: bytes, syntax: Syntax, shape: tuple[int, int], stored: StoredFormat) -> NDArray[np.uint16]:
    decoder = get_decoder(syntax.uid)
    plugin = syntax.plugin or ""
    if plugin not in decoder.available_plugins:
        raise ContainerError(
            f"no decoder for {syntax.name} is installed; install reacquire[codecs]",
            code="unsupported-transfer-syntax",
            where="TransferSyntaxUID",
        )
    options: dict[str, Any] = {
        "rows": shape[0],
        "columns": shape[1],
        "bits_allocated": 16,
        "bits_stored": stored.bits,
        "pixel_representation": int(stored.signed),
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "photometric_interpretation": "MONOCHROME2",
        "pixel_keyword": "PixelData",
    }
    try:
        with neutral_warnings():
            array, _ = decoder.as_array(encapsulate([stream]), index=0, raw=True, decoding_plugin=plugin, **options)
    except Exception as error:  # codecs fail in every way there is; at this point the bytes are to blame
        raise corrupt("the codestream cannot be decoded") from error
    if array.shape != shape:
        raise corrupt("the decoded image has another size than Rows and Columns")
    return array.astype(np.int32).astype(np.uint16)  # two's complement, whatever sign the codec chose


def _sign_extend(words: NDArray[np.uint16], stored: StoredFormat) -> NDArray[np.int32]:
    values = words.astype(np.int32) & ((1 << stored.bits) - 1)
    if stored.signed:
        sign = 1 << (stored.bits - 1)
        values = (values ^ sign) - sign
    return values
