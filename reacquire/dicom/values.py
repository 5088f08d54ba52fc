"""Header values straight from their bytes: no conversion by pydicom, hence none of its value-bearing warnings.

What is absent or empty is None. Malformed values raise, naming the keyword and the rule but never the value.
"""

import math
import re
import struct
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from reacquire.errors import DatasetError

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")  # DS, PS3.5 section 6.2
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")  # PS3.5 section 9.1; \d has digits of every script


def raw(ds: Dataset, keyword: str) -> bytes | None:
    """The encoded value of a top-level string element; None when absent or empty (padding does not count)."""
    return raw_at(ds, Tag(tag_for_keyword(keyword) or 0))


def raw_at(ds: Dataset, tag: BaseTag) -> bytes | None:
    """``raw`` of a tag, for elements without a keyword."""
    if tag not in ds:
        return None
    element = ds.get_item(tag)
    if isinstance(element, RawDataElement):
        value: Any = element.value
    else:  # an element that someone has read already
        value = _encode(element.value)
    return value.strip(b"\0 ") or None if isinstance(value, bytes) else None


def _encode(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return b"" if value is None else str(value).encode("latin-1", "replace")
    return b"\\".join(_encode(v) for v in value)


def text(ds: Dataset, keyword: str) -> str | None:
    """A value of the default repertoire (CS, LO, UI, ...), stripped; values of a list stay joined by backslashes."""
    value = raw(ds, keyword)
    return None if value is None else value.decode("latin-1")


def raw_text(ds: Dataset, tag: BaseTag) -> str | None:
    """``text`` of a tag, for elements without a keyword."""
    value = raw_at(ds, tag)
    return None if value is None else value.decode("latin-1")


def texts(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """The stripped values of a multi-valued string element, empty when absent."""
    value = text(ds, keyword)
    return () if value is None else tuple(v.strip("\0 ") for v in value.split("\\"))


def codes(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """``texts`` in upper case: CS values that vendors write in lower case mean the same."""
    return tuple(v.upper() for v in texts(ds, keyword))


def uid(ds: Dataset, keyword: str) -> str | None:
    """A UID that is one: digits and dots, no leading zeros, at most 64 characters.

    Raises
    ------
    DatasetError
        ``invalid-uid``.
    """
    value = text(ds, keyword)
    return None if value is None else checked_uid(value, keyword)


def checked_uid(value: str, keyword: str) -> str:
    """``value`` if it is a UID; the error names ``keyword``."""
    if len(value) > 64 or not _UID.fullmatch(value):
        raise DatasetError(f"{keyword} is not a UID (PS3.5 section 9.1)", code="invalid-uid", where=keyword)
    return value


def numbers(ds: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Finite decimal numbers of a DS or IS element.

    Raises
    ------
    DatasetError
        ``invalid-attribute-value`` unless there are exactly ``count`` of them.
    """
    values = texts(ds, keyword)
    if not values:
        return None
    if len(values) != count or not all(_DECIMAL.fullmatch(v) for v in values):
        raise malformed(keyword, f"must be {count} decimal number(s)")
    parsed = tuple(float(v) for v in values)
    if not all(math.isfinite(v) for v in parsed):  # 1e400 is a valid decimal string
        raise malformed(keyword, "must be finite")
    return parsed


def number(ds: Dataset, keyword: str) -> float | None:
    """One finite decimal number, None when absent or empty."""
    values = numbers(ds, keyword, 1)
    return None if values is None else values[0]


def positive(ds: Dataset, keyword: str) -> float | None:
    """One finite decimal number above zero, None when absent or empty."""
    value = number(ds, keyword)
    if value is not None and value <= 0:
        raise malformed(keyword, "must be positive")
    return value


def unsigned(ds: Dataset, keyword: str) -> int | None:
    """A binary US value in the byte order of the data set, None when absent or empty."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    if tag not in ds:
        return None
    element = ds.get_item(tag)
    if not isinstance(element, RawDataElement):
        return element.value if isinstance(element.value, int) else None
    if not element.value or len(element.value) != 2:
        return None
    return int(struct.unpack("<H" if element.is_little_endian else ">H", element.value)[0])


def malformed(keyword: str, rule: str) -> DatasetError:
    """The error for a value that breaks a rule."""
    return DatasetError(f"{keyword} {rule}", code="invalid-attribute-value", where=keyword)
