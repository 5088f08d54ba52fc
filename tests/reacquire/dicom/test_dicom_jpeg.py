"""JPEG headers that no encoder writes are refused before a C decoder meets them: some of these killed the process."""

import struct

import pytest
from builders import JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG_LS, make_mr

from reacquire.dicom.codestream import check_codestream, decode_rle
from reacquire.dicom.jpeg import SOF_JPEG_LS, SOF_LOSSLESS, Frame, parse_jpeg
from reacquire.errors import PixelError


def stream_of(syntax: str) -> bytes:
    data = make_mr(syntax=syntax)
    return data[data.rindex(b"\xff\xd8") :]


LOSSLESS = stream_of(JPEG_LOSSLESS_SV1)
FRAME = LOSSLESS.index(b"\xff\xc3")
TABLE = LOSSLESS.index(b"\xff\xc4")
SCAN = LOSSLESS.index(b"\xff\xda")


def patched(at: int, value: int) -> bytes:
    return LOSSLESS[:at] + bytes([value]) + LOSSLESS[at + 1 :]


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_LOSSLESS_SV1])
def test_a_sound_lossless_stream_declares_its_frame(syntax):
    assert parse_jpeg(stream_of(syntax), SOF_LOSSLESS) == Frame(16, 48, 64, 1)  # GDCM writes 16


def test_a_sound_jpeg_ls_stream_declares_its_frame():
    assert parse_jpeg(stream_of(JPEG_LS), SOF_JPEG_LS) == Frame(12, 48, 64, 1)


def test_application_data_comments_and_fill_bytes_are_passed_over():
    extra = b"\xff\xe1\x00\x04ab" + b"\xff\xfe\x00\x03c" + b"\xff"
    assert parse_jpeg(LOSSLESS[:2] + extra + LOSSLESS[2:], SOF_LOSSLESS).rows == 48


BROKEN = {
    "precision of 54 bits": patched(FRAME + 4, 54),
    "precision below BitsStored": patched(FRAME + 4, 8),
    "three components declared": patched(FRAME + 9, 3),
    "frame longer than its components": patched(FRAME + 3, 14),
    "other process": patched(FRAME + 1, 0xC0),
    "two frames": LOSSLESS[:FRAME] + LOSSLESS[FRAME : FRAME + 13] + LOSSLESS[FRAME:],
    "table destination": patched(TABLE + 4, 0x13),
    "table with more codes than room": patched(TABLE + 5, 200),
    "table cut": patched(TABLE + 3, 8),
    "category beyond 16": patched(TABLE + 21, 40),
    "segment beyond the end": patched(TABLE + 2, 0xFF),
    "segment of length 1": LOSSLESS[:TABLE] + b"\xff\xe0\x00\x01" + LOSSLESS[TABLE:],
    "not a marker": patched(TABLE, 0x00),
    "scan of two components": patched(SCAN + 4, 2),
    "scan with an undefined table": patched(SCAN + 6, 0x30),
    "predictor 0": patched(SCAN + 7, 0),
    "predictor 9": patched(SCAN + 7, 9),
    "point transform, which loses bits": patched(SCAN + 9, 1),
    "table inside the scan": LOSSLESS[: SCAN + 40] + b"\xff\xc4" + LOSSLESS[SCAN + 42 :],
    "no end of image": LOSSLESS[: SCAN + 60].replace(b"\xff\xd9", b""),
    "no scan": LOSSLESS[:SCAN],
    "ends inside the frame header": LOSSLESS[: FRAME + 6],
    "not JPEG": b"\0" * 100,
}


@pytest.mark.parametrize("stream", BROKEN.values(), ids=BROKEN.keys())
def test_broken_headers_are_corrupt(stream):
    with pytest.raises(PixelError) as caught:
        check_codestream("jpeg-lossless", stream, rows=48, columns=64, bits=12)
    assert caught.value.code == "corrupt-pixels"


def rle(*segments: bytes) -> bytes:
    offsets = [64]
    for segment in segments:
        offsets.append(offsets[-1] + len(segment))
    header = struct.pack("<16L", len(segments), *offsets[:-1], *([0] * (15 - len(segments))))
    return header + b"".join(segments)


def test_rle_decodes_literals_runs_and_no_operations():
    """PS3.5 G.3.2: 1..3 as they are, then 4 repeated; -128 does nothing."""
    stream = rle(b"\x02\x01\x02\x03\xfe\x04", b"\x80\xfb\x07\x00")
    assert decode_rle(stream, rows=2, columns=3) == bytes([7, 1, 7, 2, 7, 3, 7, 4, 7, 4, 7, 4])


@pytest.mark.parametrize(
    "segment",
    [b"\xfc\x01", b"\x81\x01", b"\x05\x01\x02", b""],
    ids=["too few", "bomb", "literal cut", "empty"],
)
def test_rle_segments_of_another_size_are_corrupt(segment):
    with pytest.raises(PixelError) as caught:
        decode_rle(rle(segment, b"\xfb\x07"), rows=2, columns=3)
    assert caught.value.code == "corrupt-pixels"


@pytest.mark.parametrize("stream", [rle(b"ab", b"cd", b"ef"), rle(b"ab"), b"\x02\0\0\0"])
def test_rle_headers_of_other_than_16_bit_grey_are_corrupt(stream):
    with pytest.raises(PixelError) as caught:
        check_codestream("rle", stream, rows=2, columns=3, bits=12)
    assert caught.value.code == "corrupt-pixels"
