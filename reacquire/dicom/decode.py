"""Pixel data -> stored integers, through one decoder per transfer syntax; every failure becomes an InputError.

Native data and RLE are read here; every other codec runs in the child process of ``guard``. Bounds were checked before
(``checks``, ``codestream``). Meaning (inversion, rescale) is ``read``'s.
"""

import numpy as np
from numpy.typing import NDArray

from reacquire.dicom.checks import StoredFormat
from reacquire.dicom.codestream import check_codestream, decode_rle, join_fragments
from reacquire.dicom.guard import GUARD, Order
from reacquire.dicom.header import Opened
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
        ``unsupported-transfer-syntax`` when the decoder is missing or fails its self-check, ``decompression-limit``.
    """
    from reacquire.dicom.selfcheck import check_syntax  # which itself decodes

    if check_syntax(str(opened.part10.syntax.uid)) is not None:
        raise ContainerError(
            f"{opened.part10.syntax.name} cannot be decoded on this installation; see reacquire doctor",
            code="unsupported-transfer-syntax",
            where="TransferSyntaxUID",
        )
    return decode_words(opened)


def decode_words(opened: Opened) -> NDArray[np.int32]:
    """``decode`` without asking whether the decoder is sound: what the self-check itself uses."""
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
        task = Order(str(syntax.uid), syntax.plugin or "", *shape, header.stored.bits, header.stored.signed)
        words = np.frombuffer(GUARD.decompress(task, stream), "<u2").reshape(shape)
    return _sign_extend(words, header.stored)


def _sign_extend(words: NDArray[np.uint16], stored: StoredFormat) -> NDArray[np.int32]:
    values = words.astype(np.int32) & ((1 << stored.bits) - 1)
    if stored.signed:
        sign = 1 << (stored.bits - 1)
        values = (values ^ sign) - sign
    return values
