"""A structural walk over an encoded data set before pydicom sees it: bounds, depth, element count, where pixels lie.

pydicom reads a header that is cut short without a word and recurses on nested sequences; this walk does neither. It
interprets no values. PS3.5 section 7 (data element structure) and 7.5 (nesting).
"""

import struct
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR

from reacquire.dicom.limits import Limits
from reacquire.errors import DatasetError, PixelError

PIXEL_DATA = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
BEHIND_EVERYTHING = 1 << 32
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
FRAGMENTED_VRS = frozenset({b"OB", b"OW"})


@dataclass(frozen=True)
class Layout:
    """Where the pixel data lie in the encoded data set.

    Attributes
    ----------
    header_end : int
        Offset of the pixel data element, or the length of the data set without one.
    pixels : (int, int) or None
        Start and stop of the value of PixelData; None when there is no such element.
    encapsulated : bool
        PixelData has an undefined length.
    """

    header_end: int
    pixels: tuple[int, int] | None
    encapsulated: bool


@dataclass(frozen=True)
class _Open:
    """An open "sequence", "item" or "fragments" and where it stops (None: at its delimiter)."""

    kind: str
    end: int | None


@dataclass
class _Walk:
    """Cursor and element counter of one walk."""

    data: bytes | memoryview
    implicit: bool
    order: str
    limits: Limits
    position: int = 0
    elements: int = 0

    def tag(self) -> int:
        group, element = self.unpack("HH")
        return group << 16 | element

    def unpack(self, form: str) -> tuple[int, ...]:
        form = self.order + form
        if self.position + struct.calcsize(form) > len(self.data):
            raise _cut_short()
        values = struct.unpack_from(form, self.data, self.position)
        self.position += struct.calcsize(form)
        return values

    def kind_and_length(self, tag: int) -> tuple[str, int]:
        """What the element at the cursor (behind its tag) holds, and its length field."""
        vr = bytes(self.data[self.position : self.position + 2])
        # Some writers fall back to implicit VR inside sequences; pydicom follows them, so do we.
        if self.implicit or not (vr.isalpha() and vr.isupper()):
            (length,) = self.unpack("L")
            vr = _known_vr(tag)
        elif vr in LONG_VRS:
            self.position += 4  # VR and two reserved bytes
            (length,) = self.unpack("L")
        else:
            self.position += 2
            (length,) = self.unpack("H")
        if vr in FRAGMENTED_VRS and length == UNDEFINED:
            return "fragments", length
        return ("sequence" if vr == b"SQ" or length == UNDEFINED else "value"), length

    def skip(self, length: int) -> None:
        self.position = self.end(length) or self.position

    def end(self, length: int) -> int | None:
        """Where a value of that length stops; None when only a delimiter tells."""
        if length == UNDEFINED:
            return None
        if self.position + length > len(self.data):
            raise _cut_short()
        return self.position + length

    def count(self) -> None:
        self.elements += 1
        if self.elements > self.limits.elements:
            raise DatasetError(f"more than {self.limits.elements} data elements", code="dataset-too-large")


def scan(
    data: bytes | memoryview, *, implicit: bool, little_endian: bool, limits: Limits, until: int = BEHIND_EVERYTHING
) -> Layout:
    """Walk an encoded data set (no preamble, no file meta information) up to its pixel data, or to the tag ``until``.

    Raises
    ------
    DatasetError
        ``missing-attribute`` when it ends inside an element, ``dataset-too-deep``, ``dataset-too-large``, or
        ``corrupt-dataset`` when it is not a sequence of elements.
    PixelError
        ``truncated-pixels`` when the pixel data run past the end.
    """
    walk = _Walk(data, implicit, "<" if little_endian else ">", limits)
    while walk.position < len(data):
        start = walk.position
        tag = walk.tag()
        kind, length = walk.kind_and_length(tag)
        if tag == PIXEL_DATA:
            return _pixels(walk, start, length)
        if tag >= until:
            return Layout(start, None, False)
        walk.count()
        if kind == "value":
            walk.skip(length)
        else:
            _pass_over(walk, _Open(kind, walk.end(length)))
    return Layout(len(data), None, False)


def _pixels(walk: _Walk, start: int, length: int) -> Layout:
    if length == UNDEFINED:
        return Layout(start, (walk.position, len(walk.data)), True)
    if walk.position + length > len(walk.data):
        raise PixelError("the file ends inside PixelData", code="truncated-pixels", where="PixelData")
    return Layout(start, (walk.position, walk.position + length), False)


def _pass_over(walk: _Walk, outermost: _Open) -> None:
    """Step over one sequence, with a stack of its own: recursion is what a hostile file asks for."""
    stack = [outermost]
    while stack:
        top = stack[-1]
        if top.end is not None and walk.position >= top.end:
            if walk.position > top.end:
                raise DatasetError("an item is longer than its sequence", code="corrupt-dataset")
            stack.pop()
            continue
        tag = walk.tag()
        if tag in (ITEM_END, SEQUENCE_END):
            walk.unpack("L")
            stack.pop()
        elif top.kind == "item":
            _element_in_item(walk, stack, tag)
        elif tag != ITEM:
            raise DatasetError("a sequence holds something other than items", code="corrupt-dataset")
        else:
            walk.count()  # empty items cost a parser as much as elements do
            _open_item(walk, stack, top)


def _open_item(walk: _Walk, stack: list[_Open], top: _Open) -> None:
    (length,) = walk.unpack("L")
    if top.kind == "fragments":
        walk.skip(length)
    else:
        stack.append(_Open("item", walk.end(length)))


def _element_in_item(walk: _Walk, stack: list[_Open], tag: int) -> None:
    walk.count()
    kind, length = walk.kind_and_length(tag)
    if kind == "value":
        walk.skip(length)
        return
    stack.append(_Open(kind, walk.end(length)))
    if len(stack) > 2 * walk.limits.depth:  # a sequence and an item per level
        raise DatasetError(f"sequences are nested deeper than {walk.limits.depth}", code="dataset-too-deep")


def _known_vr(tag: int) -> bytes:
    try:
        return dictionary_VR(tag)[:2].encode()
    except KeyError:
        return b"UN"


def _cut_short() -> DatasetError:
    return DatasetError("the file ends inside its header: send it again, whole", code="missing-attribute")
