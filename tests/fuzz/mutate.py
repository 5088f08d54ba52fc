"""Damage to DICOM files: each mutator takes a random generator and bytes, and gives bytes."""

import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
VRS = [b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"OB", b"OD", b"OF", b"OL"]
VRS += [b"OV", b"OW", b"PN", b"SH", b"SL", b"SQ", b"SS", b"ST", b"SV", b"TM", b"UC", b"UI", b"UL", b"UN", b"UR", b"US"]
VRS += [b"UT", b"UV", b"ZZ", b"\0\0", b"as"]
LENGTHS = [0, 1, 2, 3, 255, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]
TAGS = [0x00020010, 0x00080005, 0x00080016, 0x00080018, 0x00080008, 0x00080060, 0x00280008, 0x00280010, 0x00280100]
TAGS += [0x52009229, 0x52009230, 0x7FE00010, 0x7FE00001, 0x7FE00008, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0x00091001]
TEXTS = [
    b"",
    b" ",
    b"\0\0",
    b"NaN",
    b"inf",
    b"-inf",
    b"1e400",
    b"-1",
    b"0",
    b"1,5",
    b"1.5 T",
    b"1_0",
    b"0x10",
    b"1" * 70,
]
TEXTS += [
    b"../../etc/passwd",
    b"1..2",
    b"\\\\\\\\",
    b"\\1\\2\\3",
    b"\xff\xfe\xfd",
    b"A" * 5000,
    b"YES",
    b"MOSAIC",
    b"9" * 5000,
]
TEXTS += [
    b"1.2.840.10008.5.1.4.1.1.4.1",
    b"1.2.840.10008.5.1.4.1.1.4",
    b"ISO 2022 IR 87",
    b"ISO_IR 192",
    b"1e-320",
    b"600",
]
WORDS = [0, 1, 2, 7, 8, 9, 11, 12, 15, 16, 17, 32, 96, 255, 8192, 8193, 65535]
UIDS = [
    f"1.2.840.10008.1.2{end}".encode() for end in ("", ".1", ".2", ".1.99", ".5", ".4.50", ".4.57", ".4.70", ".4.80")
]
UIDS += [
    f"1.2.840.10008.1.2{end}".encode() for end in (".4.81", ".4.90", ".4.91", ".4.201", ".4.202", ".4.203", ".4.100")
]


PIXELS = b"\xe0\x7f\x10\0"


@dataclass(frozen=True)
class Element:
    """Where one top-level element lies: its tag, its length field and that field's size, its value."""

    at: int
    length_at: int
    size: int
    start: int
    stop: int


def elements(data: bytes) -> list[Element]:
    """The top-level elements, as far as they can be followed in little endian (explicit or implicit VR)."""
    found: list[Element] = []
    at = 132
    while at + 8 <= len(data):
        vr = data[at + 4 : at + 6]
        if vr in LONG and at + 12 <= len(data):
            length_at, size = at + 8, 4
        elif vr.isalpha() and vr.isupper():
            length_at, size = at + 6, 2
        else:
            length_at, size = at + 4, 4
        start = length_at + size
        length = int.from_bytes(data[length_at:start], "little")
        if start + length > len(data):
            found.append(Element(at, length_at, size, start, len(data)))
            break
        found.append(Element(at, length_at, size, start, start + length))
        at = start + length
    return found


def pick(rng: Random, data: bytes) -> Element | None:
    found = elements(data)
    return rng.choice(found) if found else None


def replaced(data: bytes, element: Element, value: bytes) -> bytes:
    """``data`` with another value of an element, its length field following."""
    value += b" " * (len(value) % 2)
    length = min(len(value), 0xFFFE if element.size == 2 else 0xFFFFFFFE)
    head = data[: element.length_at] + length.to_bytes(element.size, "little")
    return head + value[:length] + data[element.stop :]


def flip(rng: Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    reach = len(data) if rng.random() < 0.3 else min(len(data), 4000)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        damaged[rng.randrange(reach)] = rng.randrange(256)
    return bytes(damaged)


def cut(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def insert(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randrange(1, 64)) + data[at:]


def remove(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randrange(1, 64) :]


def retag(rng: Random, data: bytes) -> bytes:
    element = pick(rng, data)
    if element is None:
        return flip(rng, data)
    tag = rng.choice(TAGS)
    return data[: element.at] + struct.pack("<HH", tag >> 16, tag & 0xFFFF) + data[element.at + 4 :]


def revr(rng: Random, data: bytes) -> bytes:
    element = pick(rng, data)
    return flip(rng, data) if element is None else data[: element.at + 4] + rng.choice(VRS) + data[element.at + 6 :]


def relength(rng: Random, data: bytes) -> bytes:
    element = pick(rng, data)
    if element is None:
        return flip(rng, data)
    length = rng.choice([*LENGTHS, element.stop - element.start + rng.choice((-2, -1, 1, 2, 8))]) % (
        1 << 8 * element.size
    )
    return data[: element.length_at] + length.to_bytes(element.size, "little") + data[element.start :]


def drop_element(rng: Random, data: bytes) -> bytes:
    element = pick(rng, data)
    return cut(rng, data) if element is None else data[: element.at] + data[element.stop :]


def repeat_element(rng: Random, data: bytes) -> bytes:
    element = pick(rng, data)
    if element is None or element.stop - element.at > 5000:
        return insert(rng, data)
    times = rng.choice((1, 1, 2, 3000))
    return data[: element.at] + data[element.at : element.stop] * times + data[element.at :]


def swap_elements(rng: Random, data: bytes) -> bytes:
    found = elements(data)
    if len(found) < 2:
        return flip(rng, data)
    a, b = sorted(rng.sample(found, 2), key=lambda e: e.at)
    return data[: a.at] + data[b.at : b.stop] + data[a.stop : b.at] + data[a.at : a.stop] + data[b.stop :]


def revalue(rng: Random, data: bytes) -> bytes:
    element = pick(rng, data)
    return flip(rng, data) if element is None else replaced(data, element, rng.choice(TEXTS))


def rewrite_words(rng: Random, data: bytes) -> bytes:
    """Rows, Columns, bits and their kin (group 0028, two bytes)."""
    found = [e for e in elements(data) if data[e.at : e.at + 2] == b"\x28\0" and e.stop - e.start == 2]
    if not found:
        return flip(rng, data)
    return replaced(data, rng.choice(found), struct.pack("<H", rng.choice(WORDS)))


def lie_about_syntax(rng: Random, data: bytes) -> bytes:
    for element in elements(data):
        if data[element.at : element.at + 4] == b"\x02\0\x10\0":
            return replaced(data, element, rng.choice(UIDS))
    return flip(rng, data)


def nest(rng: Random, data: bytes) -> bytes:
    """A sequence in sequences, or one of many items, with lengths or delimiters that may be wrong."""
    depth = rng.choice((1, 5, 15, 17, 60, 500, 3000))
    tag, item = b"\x08\0\x15\x11SQ\0\0", b"\xfe\xff\0\xe0"
    opening = (tag + b"\xff\xff\xff\xff" + item + b"\xff\xff\xff\xff") * depth
    closing = (b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0") * (depth - rng.choice((0, 0, 1)))
    wide = tag + b"\xff\xff\xff\xff" + (item + b"\0\0\0\0") * (depth * 50) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    element = pick(rng, data)
    at = element.at if element else rng.randrange(len(data))
    return data[:at] + (opening + closing if rng.random() < 0.7 else wide) + data[at:]


def damage_pixels(rng: Random, data: bytes) -> bytes:
    """Codestreams: their headers are at the start, their ends count too."""
    at = data.find(PIXELS, 132)
    if at < 0:
        return flip(rng, data)
    damaged = bytearray(data)
    reach = rng.choice((60, 300, len(data)))
    for _ in range(rng.choice((1, 2, 8, 40))):
        place = rng.randrange(at, min(len(data), at + reach))
        damaged[place] = rng.choice((rng.randrange(256), 0, 0xFF, 0x7F, 0x80))
    return bytes(damaged)


def spoil_preamble(rng: Random, data: bytes) -> bytes:
    start = rng.choice((b"MZ", b"\x7fELF", b"II*\0", b"PK\x03\x04", b"\x1f\x8b", b"DICM", b"#!/bin/sh"))
    return start + data[len(start) :] if rng.random() < 0.7 else data[rng.choice((1, 128, 132, 136)) :]


def zip_up(rng: Random, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for number in range(rng.choice((1, 2, 3))):
            archive.writestr(rng.choice(("a/b.dcm", "../x", "DICOMDIR", "é.dcm", "n")) + str(number), data)
    return flip(rng, buffer.getvalue()) if rng.random() < 0.7 else buffer.getvalue()


MUTATORS: tuple[Callable[[Random, bytes], bytes], ...] = (
    flip, flip, cut, insert, remove, retag, revr, relength, relength, drop_element, repeat_element, swap_elements,
    revalue, revalue, revalue, rewrite_words, rewrite_words, lie_about_syntax, nest, damage_pixels, damage_pixels,
    spoil_preamble, zip_up,
)  # fmt: skip


def mutant(rng: Random, seeds: list[bytes]) -> tuple[str, bytes]:
    """The names of one to three mutators, and what they made of one of the seeds."""
    data = rng.choice(seeds)
    names = []
    if rng.random() < 0.05:  # the header of one file over the pixels of another
        other = rng.choice(seeds)
        data = data[: data.find(PIXELS)] + other[other.find(PIXELS) :]
        names.append("splice")
    for _ in range(rng.choice((1, 1, 2, 3))):
        mutator = rng.choice(MUTATORS)
        data = mutator(rng, data) or b"\0"
        names.append(mutator.__name__)
    return "+".join(names), data
