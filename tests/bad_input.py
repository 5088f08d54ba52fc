"""The table of bad input (docs/problems.md): every row that concerns a single file, built, with its code."""

import gzip
import io
import struct
import zipfile
import zlib

import numpy as np
from builders import (
    ABSENT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    J2K,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    RLE,
    SECRET,
    make_dataset,
    make_mr,
    make_pixels,
    to_bytes,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

GOOD = make_mr()
SOI, FRAME_HEADER = b"\xff\xd8", struct.pack(">HBHHB", 11, 12, 48, 64, 1) + b"\x01\x11\x00"
PIXELS_AT = len(GOOD) - 48 * 64 * 2


def with_syntax(uid: str | None) -> bytes:
    """A file whose meta information claims another syntax than its bytes have (None: no syntax at all)."""
    ds = make_dataset()
    start = to_bytes(ds)
    meta_element = b"\x02\x00\x10\x00UI"
    at = start.index(meta_element)
    length = struct.unpack_from("<H", start, at + 6)[0]
    replacement = b""
    if uid is not None:
        value = uid.encode() + b"\0" * (len(uid) % 2)
        replacement = meta_element + struct.pack("<H", len(value)) + value
    return start[:at] + replacement + start[at + 8 + length :]


def encapsulated(stream: bytes, syntax: str, **changes: int) -> bytes:
    """A file with one arbitrary codestream (PS3.5 A.4: empty offset table, one fragment, delimiter)."""
    element = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\0\0\0\0"
    fragment = b"\xfe\xff\0\xe0" + struct.pack("<L", len(stream)) + stream if stream else b""
    return without_pixels(syntax, **changes) + element + fragment + b"\xfe\xff\xdd\xe0\0\0\0\0"


def without_pixels(syntax: str = EXPLICIT, **changes) -> bytes:
    ds = make_dataset(PixelData=ABSENT, **changes)
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return to_bytes(ds)


def deflate_bomb() -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflater.compress(b"\x08\x00\x05\x00UN\0\0" + struct.pack("<L", 80 * 2**20) + bytes(80 * 2**20))
    sound = make_mr(syntax=DEFLATED)
    meta_end = 144 + struct.unpack_from("<L", sound, 140)[0]  # behind FileMetaInformationGroupLength
    return sound[:meta_end] + body + deflater.flush()


def nested(depth: int, **kwargs) -> bytes:
    item = Dataset()
    item.CodeValue = "1"
    for _ in range(depth):
        outer = Dataset()
        outer.ConceptNameCodeSequence = Sequence([item])
        item = outer
    return make_mr(ProcedureCodeSequence=[item], **kwargs)


def many_elements() -> bytes:
    ds = make_dataset()
    block = ds.private_block(0x0011, "TEST", create=True)
    for index in range(255):
        block.add_new(index, "SH", "x")
    for group in range(0x1001, 0x1021, 2):
        block = ds.private_block(group, "TEST", create=True)
        for index in range(250):
            block.add_new(index, "SH", "x")
    return to_bytes(ds)


def many_items() -> bytes:
    """One private sequence of empty items: few elements, and seconds of parsing."""
    at = GOOD.index(b"\x18\x00\x22\x00CS")
    items = b"\xfe\xff\0\xe0\0\0\0\0" * 100_000
    return GOOD[:at] + b"\x11\0\1\x10SQ\0\0\xff\xff\xff\xff" + items + b"\xfe\xff\xdd\xe0\0\0\0\0" + GOOD[at:]


def many_fragments() -> bytes:
    """A codestream in empty pieces."""
    data = make_mr(syntax=JPEG_LS)
    return data[:-8] + b"\xfe\xff\0\xe0\0\0\0\0" * 100_000 + data[-8:]


def rle_bomb() -> bytes:
    """Runs of 128 zeros: 8192 x 8192 pixels would be 134 MB."""
    segment = b"\x81\x00" * 1000
    header = struct.pack("<16L", 2, 64, 64 + len(segment), *[0] * 13)
    return encapsulated(header + segment * 2, RLE, Rows=8192, Columns=8192)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.dcm", GOOD)
    return buffer.getvalue()


def jpeg_of_other_size() -> bytes:
    return make_mr(make_pixels(48, 64), syntax=JPEG_LS).replace(
        b"\xff\xf7" + struct.pack(">HBHH", 11, 12, 48, 64), b"\xff\xf7" + struct.pack(">HBHH", 11, 12, 9999, 64)
    )


def j2k_bomb() -> bytes:
    data = make_mr(syntax=J2K)
    at = data.index(b"\xff\x4f\xff\x51") + 8
    return data[:at] + struct.pack(">2L", 60000, 60000) + data[at + 8 :]


def j2k_many_tiles() -> bytes:
    data = make_mr(syntax=J2K)
    at = data.index(b"\xff\x4f\xff\x51") + 24
    return data[:at] + struct.pack(">2L", 1, 1) + data[at + 8 :]


CONTAINERS = {
    "1 empty body": (b"", "empty-body"),
    "2 text": (b"hello " * 100, "not-dicom"),
    "2 PNG": (b"\x89PNG\r\n\x1a\n" + bytes(300), "not-dicom"),
    "2 PDF": (b"%PDF-1.7" + bytes(300), "not-dicom"),
    "2 short": (b"\0", "not-dicom"),
    "3 gzip": (gzip.compress(GOOD), "unsupported-container"),
    "3 zip where a file is expected": (zipped(), "unsupported-container"),
    "4 raw data set, explicit": (GOOD[132:], "not-part10"),
    "4 raw data set, implicit": (b"\x08\0\5\0\x0a\0\0\0ISO_IR 100" + bytes(200), "not-part10"),
    "5 MZ": (make_mr(preamble=b"MZ\x90\0"), "unsafe-preamble"),
    "5 ELF": (make_mr(preamble=b"\x7fELF"), "unsafe-preamble"),
    "5 Mach-O": (make_mr(preamble=b"\xcf\xfa\xed\xfe"), "unsafe-preamble"),
    "5 script": (make_mr(preamble=b"#!/bin/sh"), "unsafe-preamble"),
    "5 zip polyglot": (make_mr(preamble=b"PK\x03\x04"), "unsafe-preamble"),
    "12 no transfer syntax": (with_syntax(None), "unsupported-transfer-syntax"),
    "12 unknown transfer syntax": (with_syntax("1.2.3.4.5"), "unsupported-transfer-syntax"),
    "13 MPEG2": (with_syntax("1.2.840.10008.1.2.4.100"), "unsupported-transfer-syntax"),
    "13 JPEG extended": (with_syntax("1.2.840.10008.1.2.4.51"), "unsupported-transfer-syntax"),
    "13 deflated image frame": (with_syntax("1.2.840.10008.1.2.8.1"), "unsupported-transfer-syntax"),
    "15 deflate bomb": (deflate_bomb(), "decompression-limit"),
    "22 JPEG baseline": (with_syntax("1.2.840.10008.1.2.4.50"), "lossy-source"),
    "11 damaged deflate": (make_mr(syntax=DEFLATED)[:400] + b"\xff" * 100, "corrupt-dataset"),
    "12 no meta information": (bytes(128) + b"DICM" + b"\xff" * 60, "unsupported-transfer-syntax"),
}  # fmt: skip

DATASETS = {
    "7 cut inside the header": (GOOD[:700], "missing-attribute"),
    "7 cut between elements": (GOOD[: GOOD.index(b"\x18\x00\x20\x00CS")], "missing-attribute"),
    "7 no SOPInstanceUID": (make_mr(SOPInstanceUID=ABSENT, PatientID=f"{SECRET}"), "missing-attribute"),
    "7 no photometric interpretation": (make_mr(PhotometricInterpretation=ABSENT), "missing-attribute"),
    "7 no BitsStored": (make_mr(BitsStored=ABSENT), "missing-attribute"),
    "8 cut inside the pixels": (GOOD[:-100], "truncated-pixels"),
    "8 pixels too short": (make_mr(PixelData=bytes(1000)), "truncated-pixels"),
    "9 MR without pixels": (without_pixels(), "no-pixels"),
    "9 structured report": (without_pixels(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR"), "no-pixels"),
    "9 raw data": (without_pixels(SOPClassUID="1.2.840.10008.5.1.4.1.1.66"), "no-pixels"),
    "10 empty pixels": (make_mr(PixelData=b""), "truncated-pixels"),
    "11 native pixels of undefined length": (
        GOOD[: PIXELS_AT - 4] + b"\xff\xff\xff\xff" + GOOD[PIXELS_AT:], "corrupt-dataset"),
    "14 declared RLE, native bytes": (with_syntax(RLE), "corrupt-pixels"),
    "14 declared JPEG lossless, RLE bytes": (
        encapsulated(b"\2\0\0\0" + bytes(60), JPEG_LOSSLESS_SV1), "corrupt-pixels"),
    "14 declared JPEG lossless, JPEG-LS bytes": (
        encapsulated(SOI + b"\xff\xf7" + FRAME_HEADER + bytes(60), JPEG_LOSSLESS_SV1), "corrupt-pixels"),
    "14 declared J2K, noise": (encapsulated(bytes(range(200)), J2K), "corrupt-pixels"),
    "14 codestream cut": (encapsulated(b"\xff\xd8\xff", JPEG_LS), "corrupt-pixels"),
    "14 sound JPEG header, damaged scan": (
        encapsulated(SOI + b"\xff\xc3" + FRAME_HEADER + bytes(99), JPEG_LOSSLESS_SV1), "corrupt-pixels"),
    "10 no fragment": (encapsulated(b"", JPEG_LS), "truncated-pixels"),
    "8 encapsulated pixels cut": (make_mr(syntax=JPEG_LS)[:-200], "truncated-pixels"),
    "16 rows times columns over the cap": (
        make_mr(syntax=J2K).replace(b"\x28\0\x10\0US\2\0\x30\0", b"\x28\0\x10\0US\2\0\xff\xff"), "image-too-large"),
    "16 RLE of a few bytes that stand for 134 MB": (rle_bomb(), "image-too-large"),
    "16 J2K that says 60000 x 60000 throughout": (
        j2k_bomb().replace(b"\x28\0\x10\0US\2\0\x30\0", b"\x28\0\x10\0US\2\0\x60\xea"), "image-too-large"),
    "16 J2K of single-pixel tiles": (j2k_many_tiles(), "image-too-large"),
    "16 J2K of 60000 x 60000 in a small image": (j2k_bomb(), "image-too-large"),
    "14 RLE segments that inflate beyond the image": (
        encapsulated(struct.pack("<16L", 2, 64, 4064, *[0] * 13) + b"\x82\x01" * 4000, RLE), "corrupt-pixels"),
    "14 a hundred thousand fragments": (many_fragments(), "corrupt-pixels"),
    "17 codestream of another size": (jpeg_of_other_size(), "corrupt-pixels"),
    "18 Rows 0": (make_mr(Rows=0), "invalid-image-attributes"),
    "18 Columns absent": (make_mr(Columns=ABSENT), "invalid-image-attributes"),
    "18 Rows 65535 with little data": (make_mr(Rows=65535), "invalid-image-attributes"),
    "19 a billion frames": (make_mr(NumberOfFrames=b"1000000000"), "invalid-image-attributes"),
    "19 -1 frames": (make_mr(NumberOfFrames=b"-1"), "invalid-image-attributes"),
    "19 2 frames": (make_mr(NumberOfFrames=b"2 "), "invalid-image-attributes"),
    "20 BitsAllocated 12": (make_mr(BitsAllocated=12), "invalid-image-attributes"),
    "20 BitsAllocated 32": (make_mr(BitsAllocated=32), "invalid-image-attributes"),
    "20 BitsStored over BitsAllocated": (make_mr(BitsStored=17), "invalid-image-attributes"),
    "20 BitsStored 0": (make_mr(BitsStored=0), "invalid-image-attributes"),
    "20 PixelRepresentation 3": (make_mr(PixelRepresentation=3), "invalid-image-attributes"),
    "20 HighBit": (make_mr(HighBit=15), "invalid-image-attributes"),
    "21 RGB": (make_mr(PhotometricInterpretation="RGB", SamplesPerPixel=3), "unsupported-photometric"),
    "21 PALETTE": (make_mr(PhotometricInterpretation="PALETTE COLOR"), "unsupported-photometric"),
    "21 three samples": (make_mr(SamplesPerPixel=3), "unsupported-photometric"),
    "22 eight bits": (make_mr(BitsAllocated=8, BitsStored=8, HighBit=7), "lossy-source"),
    "22 eight of sixteen bits": (make_mr(BitsStored=8, HighBit=7), "lossy-source"),
    "23 constant": (make_mr(np.full((48, 64), 9, np.uint16)), "degenerate-image"),
    "23 all zero, 16 bits": (make_mr(np.zeros((48, 64), np.uint16), syntax=RLE), "degenerate-image"),
    "24 nested sequences": (nested(40), "dataset-too-deep"),
    "24 nested sequences, implicit": (nested(40, syntax=IMPLICIT), "dataset-too-deep"),
    "25 thousands of elements": (many_elements(), "dataset-too-large"),
    "25 a hundred thousand empty items": (many_items(), "dataset-too-large"),
    "26 another modality": (make_mr(Modality="CT"), "unsupported-modality"),
    "26 ultrasound": (make_mr(Modality="US", SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1"), "unsupported-modality"),
    "26 no modality": (make_mr(Modality=ABSENT), "missing-attribute"),
    "27 brain": (make_mr(BodyPartExamined="BRAIN"), "unsupported-body-part"),
    "28 sagittal": (make_mr(ImageOrientationPatient=["0", "1", "0", "0", "0", "-1"]), "unsupported-orientation"),
    "28 coronal": (make_mr(ImageOrientationPatient=["1", "0", "0", "0", "0", "-1"]), "unsupported-orientation"),
    "28 oblique by 15 degrees": (
        make_mr(ImageOrientationPatient=["1", "0", "0", "0", "0.9659258", "0.2588190"]), "unsupported-orientation"),
    "28 turned in plane by 15 degrees": (make_mr(ImageOrientationPatient=[
        "0.9659258", "0.2588190", "0", "-0.2588190", "0.9659258", "0"]), "unsupported-orientation"),
    "34 no unit vectors": (make_mr(ImageOrientationPatient=["2", "0", "0", "0", "1", "0"]), "invalid-attribute-value"),
    "29 mosaic": (make_mr(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "unsupported-image-type"),
    "29 localiser": (make_mr(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "unsupported-image-type"),
    "29 phase": (make_mr(ImageType=["ORIGINAL", "PRIMARY", "PHASE MAP"]), "unsupported-image-type"),
    "29 enhanced colour MR": (make_mr(SOPClassUID="1.2.840.10008.5.1.4.1.1.4.3"), "unsupported-image-type"),
    "30 no IPP": (make_mr(ImagePositionPatient=ABSENT), "missing-geometry"),
    "30 no IOP": (make_mr(ImageOrientationPatient=b""), "missing-geometry"),
    "30 no spacing": (make_mr(PixelSpacing=ABSENT), "missing-geometry"),
    "30 no frame of reference": (make_mr(FrameOfReferenceUID=ABSENT), "missing-geometry"),
    "34 spacing 0": (make_mr(PixelSpacing=b"0\\1 "), "invalid-attribute-value"),
    "33 SyntheticData": (make_mr(SyntheticData="YES"), "already-synthetic"),
    "33 our own image type": (
        make_mr(ImageType=["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC", "COUNTERFACTUAL"]), "already-synthetic"),
    "34 decimal comma": (make_mr(EchoTime=b"1,5 "), "invalid-attribute-value"),
    "34 NaN": (make_mr(RepetitionTime=b"NaN "), "invalid-attribute-value"),
    "34 infinity": (make_mr(FlipAngle=b"inf "), "invalid-attribute-value"),
    "34 beyond double precision": (make_mr(EchoTime=b"1e400 "), "invalid-attribute-value"),
    "34 negative": (make_mr(SliceThickness=b"-1"), "invalid-attribute-value"),
    "34 zero": (make_mr(EchoTime=b"0 "), "invalid-attribute-value"),
    "34 unit in the value": (make_mr(MagneticFieldStrength=b"1.5 T "), "invalid-attribute-value"),
    "34 two values": (make_mr(EchoTime=b"1.5\\3 "), "invalid-attribute-value"),
    "34 underscore": (make_mr(EchoTime=b"1_5 "), "invalid-attribute-value"),
    "34 rescale slope 0": (make_mr(RescaleSlope=b"0 "), "invalid-attribute-value"),
    "37 traversal in a UID": (GOOD.replace(b"1.2.3.4.1\0", b"../../../x"), "invalid-uid"),
    "37 UID too long": (make_mr(SeriesInstanceUID=b"1." * 33 + b"11"), "invalid-uid"),
    "39 DICOMDIR": (GOOD.replace(b"\x02\x00\x02\x00UI\x1a\x001.2.840.10008.5.1.4.1.1.4\x00",
                                 b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10"), "dicomdir-not-accepted"),
    "42 unknown charset and a PatientID that needs it": (
        make_mr(SpecificCharacterSet="ISO_IR 100", PatientID="SECRET\xe4").replace(b"ISO_IR 100", b"FANTASY_99"),
        "charset"),
}  # fmt: skip

CASES = {**CONTAINERS, **DATASETS}
