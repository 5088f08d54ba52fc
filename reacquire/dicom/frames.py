"""A multi-frame Enhanced MR file -> one classic MR file per frame, in memory, so that later code knows one kind only.

Encoded frames are moved over without decoding. Each stand-in notes the real object (``origin``): references that are
written later name that object and the frame number, as PS3.3 section 10.3 asks.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from reacquire.dicom import checks, origin, values
from reacquire.dicom.codestream import corrupt, join_fragments
from reacquire.dicom.container import Part10, is_part10, open_part10, parse
from reacquire.dicom.groups import Groups, check_magnitude, frame_attributes, mixed_frames, plain_texts
from reacquire.dicom.limits import DEFAULT, Limits
from reacquire.dicom.quiet import neutral_warnings
from reacquire.dicom.scan import BEHIND_EVERYTHING, Layout, scan
from reacquire.dicom.uids import derive_uid
from reacquire.errors import ContainerError, DatasetError, PixelError, ReacquireError

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
BEFORE_PIXELS = 0x00280009  # NumberOfFrames is (0028,0008); the bulky functional groups come later
PIXEL_WORDS = ("SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
LONG_VRS = ("OB", "OW", "UT", "UC", "UR", "UN")
UNWANTED = frozenset({"SOPClassUID", "SOPInstanceUID", "NumberOfFrames", "InstanceNumber", "ComplexImageComponent"})


@dataclass(frozen=True)
class _Source:
    """A multi-frame file, taken apart."""

    part10: Part10
    layout: Layout
    top: Dataset
    frames: int


def is_enhanced(data: bytes) -> bool:
    """Whether a file may be Enhanced MR, judged by its first bytes: the file meta information, or the data set."""
    return is_part10(data) and ENHANCED_MR.encode() in data[:4096]


def explode(data: bytes, *, limits: Limits = DEFAULT) -> list[bytes]:
    """The frames of an Enhanced MR file as classic MR files.

    Parameters
    ----------
    data : bytes
        A whole Part 10 file.

    Returns
    -------
    list of bytes
        One Part 10 file per frame, the same bytes for the same input; ``[data]`` for any other kind of object.

    Raises
    ------
    InputError
        With the code of the first rule that the object as a whole breaks; what a frame breaks, ``inspect`` says.
    """
    part10 = open_part10(data, limits=limits)
    head = parse(part10, _scan(part10, limits, until=BEFORE_PIXELS))
    if values.text(head, "SOPClassUID") != ENHANCED_MR:
        return [data]
    checks.check_uids(head)
    frames = _number_of_frames(head, limits)
    widened = replace(limits, elements=limits.elements + frames * limits.frame_elements)
    layout = _scan(part10, widened)
    try:
        with neutral_warnings():
            source = _Source(part10, layout, parse(part10, layout), frames)
            return _stand_ins(source, limits)
    except ReacquireError:
        raise
    except Exception as error:  # pydicom's parser raises many kinds on hostile bytes, all of them the file's fault
        raise DatasetError("the functional groups cannot be parsed", code="corrupt-dataset") from error


def _scan(part10: Part10, limits: Limits, *, until: int = BEHIND_EVERYTHING) -> Layout:
    syntax = part10.syntax
    return scan(part10.body, implicit=syntax.implicit, little_endian=syntax.little_endian, limits=limits, until=until)


def _number_of_frames(head: Dataset, limits: Limits) -> int:
    text = values.text(head, "NumberOfFrames") or ""
    if not (text.isascii() and text.isdecimal()) or len(text) > 12 or int(text) < 1:
        raise checks.bad_image("NumberOfFrames", "must be a positive integer")
    if int(text) > limits.instances:
        raise ContainerError(f"a series may have at most {limits.instances} slices", code="too-large")
    return int(text)


def _stand_ins(source: _Source, limits: Limits) -> list[bytes]:
    top, layout = source.top, source.layout
    checks.check_pixels_present(top, layout)
    checks.check_format(top)
    checks.check_framing(layout, native=source.part10.syntax.codec == "native")
    rows, columns = checks.check_size(top, layout, limits)
    if 2 * rows * columns * source.frames > limits.multiframe_bytes:
        raise PixelError(
            f"the frames of a file may have at most {limits.multiframe_bytes} bytes",
            code="image-too-large",
            where="NumberOfFrames",
        )
    described = [frame_attributes(top, groups) for groups in _groups(source)]
    for found, _ in described:
        check_magnitude(found, top)
        if found.get("ImageType") != described[0][0].get("ImageType"):
            raise mixed_frames()
    common = _common(source)
    pixels = _encoded_frames(source, 2 * rows * columns)
    return [
        _file(source, number, {**common, **_encoded_texts(found)}, sources, frame)
        for number, ((found, sources), frame) in enumerate(zip(described, pixels, strict=True), start=1)
    ]


def _groups(source: _Source) -> list[Groups]:
    top = source.top
    shared = list(top["SharedFunctionalGroupsSequence"].value) if "SharedFunctionalGroupsSequence" in top else []
    frames = list(top["PerFrameFunctionalGroupsSequence"].value) if "PerFrameFunctionalGroupsSequence" in top else []
    if len(frames) != source.frames:
        raise checks.bad_image("NumberOfFrames", "must be the number of items of PerFrameFunctionalGroupsSequence")
    return [Groups(shared[0] if shared else Dataset(), frame) for frame in frames]


def _common(source: _Source) -> dict[str, bytes]:
    """What all frames share: the texts at the top level and the pixel format."""
    common = {k: v for k, v in plain_texts(source.top).items() if k not in UNWANTED}
    common["SOPClassUID"] = checks.MR_IMAGE.encode()
    for keyword in PIXEL_WORDS:
        common[keyword] = struct.pack("<H", checks.unsigned(source.top, keyword))
    return common


def _encoded_texts(found: Mapping[str, str]) -> dict[str, bytes]:
    return {k: v.encode("latin-1", "replace") for k, v in found.items() if k not in UNWANTED}


def _encoded_frames(source: _Source, frame_bytes: int) -> Iterator[bytes]:
    """The value of PixelData of each stand-in."""
    start, stop = source.layout.pixels or (0, 0)
    encoded = source.part10.body[start:stop]
    if not source.layout.encapsulated:
        if len(encoded) < frame_bytes * source.frames:
            raise PixelError("PixelData is shorter than its frames", code="truncated-pixels", where="PixelData")
        for n in range(source.frames):
            frame = bytes(encoded[n * frame_bytes : (n + 1) * frame_bytes])
            yield frame if source.part10.syntax.little_endian else np.frombuffer(frame, ">u2").astype("<u2").tobytes()
        return
    total = 0
    for fragment in _fragments(source, bytes(encoded)):
        total += len(fragment)
        if total > len(encoded):  # an extended offset table may name the same bytes many times
            raise corrupt("the offset table names more bytes than there are")
        padded = fragment + b"\0" * (len(fragment) % 2)
        item = b"\xfe\xff\x00\xe0"
        yield item + bytes(4) + item + struct.pack("<L", len(padded)) + padded + b"\xfe\xff\xdd\xe0" + bytes(4)


def _fragments(source: _Source, encoded: bytes) -> list[bytes]:
    """One codestream per frame (PS3.5 A.4)."""
    join_fragments(encoded)  # refuses a stream that is cut or in too many pieces
    table = [source.top.get_item(k) for k in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    offsets = None if None in table else (table[0].value, table[1].value)  # type: ignore[union-attr]
    try:
        frames = list(generate_frames(encoded, number_of_frames=source.frames, extended_offsets=offsets))
    except Exception as error:
        raise corrupt("the encapsulated frames cannot be told apart") from error
    if len(frames) != source.frames:
        raise corrupt("PixelData does not hold NumberOfFrames frames")
    return frames


def _file(
    source: _Source, number: int, attributes: dict[str, bytes], sources: Mapping[str, str], pixels: bytes
) -> bytes:
    """One stand-in: preamble, file meta information, elements in ascending order, pixels."""
    native = not source.layout.encapsulated
    instance = values.uid(source.top, "SOPInstanceUID") or ""
    uid = derive_uid("frame", instance, number).encode()
    attributes = {**attributes, "SOPInstanceUID": uid, "InstanceNumber": str(number).encode()}
    elements = {int(tag_for_keyword(k) or 0): (dictionary_VR(k)[:2], v) for k, v in attributes.items()}
    elements[origin.CREATOR_TAG] = ("LO", origin.CREATOR.encode())
    elements[origin.CLASS_TAG] = ("UI", ENHANCED_MR.encode())
    elements[origin.INSTANCE_TAG] = ("UI", instance.encode())
    elements[origin.FRAME_TAG] = ("IS", str(number).encode())
    elements[origin.SOURCES_TAG] = ("LT", ";".join(f"{k}={v}" for k, v in sources.items()).encode())
    body = b"".join(encode_element(tag, *elements[tag]) for tag in sorted(elements))
    syntax = EXPLICIT_LITTLE_ENDIAN if native else str(source.part10.syntax.uid)
    meta = (
        encode_element(0x00020001, "OB", b"\0\1")
        + encode_element(0x00020002, "UI", checks.MR_IMAGE.encode())
        + encode_element(0x00020003, "UI", uid)
        + encode_element(0x00020010, "UI", syntax.encode())
    )
    length = encode_element(0x00020000, "UL", struct.pack("<L", len(meta)))
    data = encode_element(0x7FE00010, "OW" if native else "OB", pixels, undefined=not native)
    return bytes(128) + b"DICM" + length + meta + body + data


def encode_element(tag: int, vr: str, value: bytes, *, undefined: bool = False) -> bytes:
    """One data element in Explicit VR Little Endian (PS3.5 section 7.1.2), padded to even length."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB") else b" "
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in LONG_VRS:
        return head + b"\0\0" + (b"\xff\xff\xff\xff" if undefined else struct.pack("<L", len(value))) + value
    return head + struct.pack("<H", len(value)) + value
