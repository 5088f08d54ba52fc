"""The marker structure of JPEG lossless and JPEG-LS streams, checked before a C decoder meets it.

GDCM's decoder dies (not: raises) on headers that no encoder writes, and with it the process. Everything up to the
entropy-coded data is therefore held to ITU-T T.81 annex B here (T.87 annex C for JPEG-LS).
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from reacquire.errors import PixelError

SOF_LOSSLESS, SOF_JPEG_LS = 0xC3, 0xF7
DHT, SOS, DRI = 0xC4, 0xDA, 0xDD
HARMLESS = frozenset({*range(0xE0, 0xF0), 0xFE})  # application data and comments
LSE = 0xF8  # JPEG-LS presets
MAX_LOSSLESS_CATEGORY = 16  # T.81 table H.2
_STRAY_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # within a scan: stuffing, restarts and fill only


@dataclass(frozen=True)
class Frame:
    """What the frame header declares."""

    precision: int
    rows: int
    columns: int
    samples: int


def parse_jpeg(stream: bytes, sof: int) -> Frame:
    """Check one single-scan image and return its frame header.

    Parameters
    ----------
    sof : int
        The frame marker of the process that the transfer syntax names.

    Raises
    ------
    PixelError
        ``corrupt-pixels``; ``struct.error`` or ``IndexError`` when the stream ends inside a header.
    """
    if stream[:2] != b"\xff\xd8":
        raise _corrupt("the codestream is not JPEG")
    frame: Frame | None = None
    tables: set[int] = set()
    for marker, start, body in _segments(stream):
        if marker == sof and frame is None:
            frame = Frame(*struct.unpack_from(">BHHB", body))
            if len(body) != 6 + 3 * frame.samples:
                raise _corrupt("the JPEG frame header has another length than its components need")
        elif marker == DHT and sof == SOF_LOSSLESS:
            tables |= _huffman_tables(body)
        elif marker == SOS and frame is not None:
            if sof == SOF_LOSSLESS:
                _check_scan(body, tables)
            _check_entropy_data(stream, start + len(body), marker_free=sof == SOF_LOSSLESS)
            return frame
        elif marker not in HARMLESS and not (marker == DRI and len(body) == 2) and marker != LSE:
            raise _corrupt("the JPEG markers are not those of the transfer syntax")
    raise _corrupt("the JPEG stream has no scan")


def _segments(stream: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(marker, offset of its body, body) of each marker segment behind SOI."""
    position = 2
    while position < len(stream):
        if stream[position] != 0xFF:
            raise _corrupt("the JPEG markers are damaged")
        marker = stream[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        (length,) = struct.unpack_from(">H", stream, position + 2)
        if length < 2 or position + 2 + length > len(stream):
            raise _corrupt("a JPEG marker segment is cut short")
        yield marker, position + 4, stream[position + 4 : position + 2 + length]
        position += 2 + length


def _huffman_tables(body: bytes) -> set[int]:
    """Destinations of the tables in a DHT segment (T.81 B.2.4.2)."""
    tables, position = set(), 0
    while position < len(body):
        counts = body[position + 1 : position + 17]
        categories = body[position + 17 : position + 17 + sum(counts)]
        room = sum(count << (16 - length) for length, count in enumerate(counts, start=1))
        sound = len(counts) == 16 and len(categories) == sum(counts) and room <= 1 << 16 and len(set(categories)) > 0
        if not sound or body[position] > 3 or len(set(categories)) != len(categories):
            raise _corrupt("a JPEG Huffman table is damaged")
        if max(categories) > MAX_LOSSLESS_CATEGORY:
            raise _corrupt("a JPEG Huffman table is not one of the lossless process")
        tables.add(body[position])
        position += 17 + len(categories)
    return tables


def _check_scan(body: bytes, tables: set[int]) -> None:
    """The scan header of a lossless image with one component (T.81 B.2.3 and table B.3)."""
    count, _component, table, predictor, end, approximation = struct.unpack(">6B", body)
    if count != 1 or table & 0x0F or table >> 4 not in tables or not 1 <= predictor <= 7 or end:
        raise _corrupt("the JPEG scan header is not one of a lossless grey image")
    if approximation:  # the point transform drops low bits, so the stream would not be what its syntax says
        raise _corrupt("the JPEG scan is not lossless")


def _check_entropy_data(stream: bytes, start: int, *, marker_free: bool) -> None:
    end = stream.rfind(b"\xff\xd9")
    if end < start:
        raise _corrupt("the JPEG stream has no end")
    if marker_free and _STRAY_MARKER.search(stream, start, end):
        raise _corrupt("the JPEG scan holds a marker that ends it early")


def _corrupt(detail: str) -> PixelError:
    return PixelError(detail, code="corrupt-pixels", where="PixelData")
