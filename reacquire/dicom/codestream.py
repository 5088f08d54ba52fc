"""Encapsulated pixel data before a decoder sees them: fragments, and the size that the codestream itself declares.

A codestream that disagrees with Rows and Columns is how small files make decoders allocate gigabytes.
PS3.5 annex A.4 (encapsulation), annex G (RLE); ITU-T T.81, T.87 (JPEG, JPEG-LS); T.800 (JPEG 2000).
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

from reacquire.dicom.jpeg import SOF_JPEG_LS, SOF_LOSSLESS, parse_jpeg
from reacquire.errors import PixelError

ITEM, DELIMITER = 0xFFFEE000, 0xFFFEE0DD
MAX_TILES = 1024
MAX_FRAGMENTS = 16_384  # of one file; no writer makes them smaller than a few kilobytes


@dataclass(frozen=True)
class Declared:
    """Size, samples per pixel and bits per sample according to the codestream."""

    rows: int
    columns: int
    samples: int
    precision: int


def join_fragments(encoded: bytes | memoryview) -> bytes:
    """The codestream of a single frame: all fragments behind the basic offset table, joined (PS3.5 A.4).

    Parameters
    ----------
    encoded : bytes or memoryview
        The value of an encapsulated PixelData and whatever follows it.

    Raises
    ------
    PixelError
        ``truncated-pixels`` without a sequence delimiter, ``corrupt-pixels`` for anything but items.
    """
    fragments: list[bytes | memoryview] = []
    position = 0
    while position + 8 <= len(encoded):
        group, element, length = struct.unpack_from("<HHL", encoded, position)
        position += 8
        tag = group << 16 | element
        if tag == DELIMITER:
            return b"".join(fragments[1:])
        if tag != ITEM:
            raise corrupt("the encapsulated data hold something other than items")
        if position + length > len(encoded):
            break
        fragments.append(encoded[position : position + length])
        if len(fragments) > MAX_FRAGMENTS:
            raise corrupt(f"more than {MAX_FRAGMENTS} fragments")
        position += length
    raise PixelError("the file ends inside the encapsulated PixelData", code="truncated-pixels", where="PixelData")


def check_codestream(codec: str, stream: bytes, *, rows: int, columns: int, bits: int) -> None:
    """Refuse a codestream of another codec, of another size or of fewer bits than the header declares.

    Raises
    ------
    PixelError
        ``corrupt-pixels``; ``truncated-pixels`` for an empty codestream; ``image-too-large`` for a tile bomb.
    """
    if not stream:
        raise PixelError("PixelData holds no fragment", code="truncated-pixels", where="PixelData")
    try:
        declared = _PARSERS[codec](stream)
    except (struct.error, IndexError) as error:
        raise corrupt("the codestream ends inside its header") from error
    if declared is None:  # RLE declares no size
        return
    if (declared.rows, declared.columns, declared.samples) != (rows, columns, 1):
        raise corrupt("the codestream declares another size than Rows and Columns, or colour")
    if not bits <= declared.precision <= 16:
        raise corrupt("the codestream declares fewer bits than BitsStored, or more than 16")


def corrupt(detail: str) -> PixelError:
    """The error for pixel data that contradict their header."""
    return PixelError(detail, code="corrupt-pixels", where="PixelData")


def decode_rle(stream: bytes, *, rows: int, columns: int) -> bytes:
    """PackBits segments -> little-endian 16-bit pixels (PS3.5 annex G), never more than Rows x Columns of them.

    Our own, because the decoders at hand expand first and compare afterwards, or panic on damaged segments.
    """
    second = int.from_bytes(stream[8:12], "little")
    planes = bytearray(2 * rows * columns)
    planes[1::2] = _unpack_bits(stream[64:second], rows * columns)  # G.2: the most significant byte comes first
    planes[0::2] = _unpack_bits(stream[second:], rows * columns)
    return bytes(planes)


def _unpack_bits(segment: bytes, size: int) -> bytes:
    out = bytearray()
    position, end = 0, len(segment)
    while len(out) < size and position + 1 < end:
        count = segment[position]
        if count < 128:  # that many and one more bytes follow as they are
            out += segment[position + 1 : position + count + 2]
            position += count + 2
        elif count > 128:  # the next byte, repeated
            out += segment[position + 1 : position + 2] * (257 - count)
            position += 2
        else:
            position += 1
    if len(out) != size:
        raise corrupt("an RLE segment does not hold Rows x Columns bytes")
    return bytes(out)


def _jpeg(sof: int) -> Callable[[bytes], Declared]:
    def parse(stream: bytes) -> Declared:
        frame = parse_jpeg(stream, sof)
        return Declared(frame.rows, frame.columns, frame.samples, frame.precision)

    return parse


def _jpeg2000(stream: bytes) -> Declared:
    start = stream.find(b"\xff\x4f\xff\x51", 0, 4096)  # some writers wrap the codestream into JP2 boxes
    if start < 0:
        raise corrupt("the codestream is not JPEG 2000")
    x, y, x0, y0, tile_x, tile_y, tile_x0, tile_y0, samples, depth = struct.unpack_from(">8LHB", stream, start + 8)
    if not tile_x or not tile_y:
        raise corrupt("the JPEG 2000 tiles are empty")
    if math.ceil((x - tile_x0) / tile_x) * math.ceil((y - tile_y0) / tile_y) > MAX_TILES:
        raise PixelError(f"more than {MAX_TILES} JPEG 2000 tiles", code="image-too-large", where="PixelData")
    return Declared(y - y0, x - x0, samples, (depth & 0x7F) + 1)  # the top bit is the sign


def _rle(stream: bytes) -> None:
    segments, first, second = struct.unpack_from("<3L", stream)
    if segments != 2 or first != 64 or not 64 < second < len(stream):  # PS3.5 G.5: one segment per byte of a pixel
        raise corrupt("the RLE header does not describe 16-bit grey pixels")


_PARSERS: dict[str, Callable[[bytes], Declared | None]] = {
    "jpeg-lossless": _jpeg(SOF_LOSSLESS),
    "jpeg-ls": _jpeg(SOF_JPEG_LS),
    "jpeg2000": _jpeg2000,
    "rle": _rle,
}
