"""multipart/related (RFC 2387) as DICOMweb uses it (PS3.18 8.6.1.2): read as a stream under caps, and written.

python-multipart does the parsing; here are the caps, and the pairing of its callbacks with parts.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from python_multipart.exceptions import ParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from reacquire.errors import ContainerError, PacsError, PacsOutage

CRLF = b"\r\n"


@dataclass(frozen=True)
class PartCaps:
    """The most parts, the most bytes of one, and the most of all together."""

    parts: int
    part_bytes: int
    bytes: int


@dataclass
class _Parts:
    """Callbacks of the parser: the part that is being read, and those that are whole."""

    caps: PartCaps
    current: bytearray = field(default_factory=bytearray)
    whole: list[bytes] = field(default_factory=list)
    begun: int = 0
    total: int = 0
    ended: bool = False

    def begin(self) -> None:
        self.begun += 1
        if self.begun > self.caps.parts:
            raise ContainerError(f"the PACS sent more than {self.caps.parts} instances", code="too-large")
        self.current = bytearray()

    def data(self, chunk: bytes, start: int, end: int) -> None:
        self.total += end - start
        if len(self.current) + end - start > self.caps.part_bytes or self.total > self.caps.bytes:
            raise ContainerError("what the PACS sent is larger than this service accepts", code="too-large")
        self.current += chunk[start:end]

    def finish(self) -> None:
        self.whole.append(bytes(self.current))
        self.current = bytearray()

    def end(self) -> None:
        self.ended = True

    def taken(self) -> list[bytes]:
        whole, self.whole = self.whole, []
        return whole


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart answer.

    Raises
    ------
    PacsError
        ``pacs-answer-invalid`` when it is no multipart/related, or has none.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind.lower() != b"multipart/related" or not boundary or len(boundary) > 70:  # RFC 2046 5.1.1
        raise PacsError("the PACS did not answer with multipart/related", code="pacs-answer-invalid")
    return boundary


def read_parts(boundary: bytes, chunks: Iterable[bytes], caps: PartCaps) -> Iterator[bytes]:
    """The bodies of the parts, one at a time, as soon as each is whole.

    Raises
    ------
    ContainerError
        ``too-large`` as soon as a cap is passed.
    PacsError
        ``pacs-answer-invalid`` for what is no multipart.
    PacsOutage
        The stream stopped before its closing boundary: the connection, or the PACS, went away.
    """
    parts = _Parts(caps)
    parser = MultipartParser(
        boundary,
        {"on_part_begin": parts.begin, "on_part_data": parts.data, "on_part_end": parts.finish, "on_end": parts.end},
        max_header_count=16,
    )
    try:
        for chunk in chunks:
            parser.write(chunk)
            yield from parts.taken()
    except ParseError:
        raise PacsError("the answer of the PACS is not a valid multipart", code="pacs-answer-invalid") from None
    if not parts.ended:
        raise PacsOutage("the answer of the PACS stopped half-way")


def write_parts(files: Sequence[bytes]) -> tuple[str, int, Iterator[bytes]]:
    """A multipart/related body of Part 10 files: its Content-Type, its length in bytes, and its bytes."""
    boundary = uuid.uuid4().hex  # 122 random bits: no file holds it
    head = b"--" + boundary.encode() + CRLF + b"Content-Type: application/dicom" + CRLF + CRLF
    tail = b"--" + boundary.encode() + b"--" + CRLF
    length = sum(len(head) + len(data) + len(CRLF) for data in files) + len(tail)

    def chunks() -> Iterator[bytes]:
        for data in files:
            yield head
            yield data
            yield CRLF
        yield tail

    return f'multipart/related; type="application/dicom"; boundary={boundary}', length, chunks()
