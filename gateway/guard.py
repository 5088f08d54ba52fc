"""What pynetdicom does not do for us: bound a PDU before it is buffered, and end a connection that stops half-way.

pynetdicom 3.0.4 allocates whatever length a PDU claims, before any association is accepted, and waits without end for
the rest of one. A ``GuardedSocket`` stands between it and the connection: a ``PduMeter`` reads the framing (PS3.8 9.3)
along with the bytes and breaks the connection off at the first byte too many.
"""

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

HEADER = 6  # PDU type, reserved, length (PS3.8 9.3.1)
P_DATA_TF = 4
ASSOCIATE_BYTES = 256 * 2**10  # 128 contexts with every syntax there is, and a user identity, take 64 KB
COMMAND_BYTES = 64 * 2**10  # a C-STORE request takes some 200 bytes
CONTROL_BYTES = 4  # release and abort have nothing else to say (PS3.8 9.3.6 to 9.3.8)
LIMIT_OF = dict.fromkeys((1, 2), ASSOCIATE_BYTES) | dict.fromkeys((3, 5, 6, 7), CONTROL_BYTES)


class BrokenOffError(OSError):
    """The peer broke a limit; pynetdicom takes it for a closed connection. ``code`` names the limit."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class PduMeter:
    """Follows the framing of what a peer sends; holds counters, never data.

    Attributes
    ----------
    pdu_bytes : int
        The largest P-DATA-TF that we announced we take.
    dataset_bytes : int
        The largest data set of one message.
    """

    pdu_bytes: int
    dataset_bytes: int
    head: bytearray = field(default_factory=bytearray)  # of the PDU or PDV at hand, while incomplete
    pdu_left: int = 0
    pdv_left: int = 0
    data: int = 0
    command: int = 0
    unanswered: int = 0
    in_data: bool = False

    @property
    def between(self) -> bool:
        """Whether the last byte fed ended a PDU."""
        return not self.head and not self.pdu_left

    def feed(self, block: bytes) -> None:
        """Account for received bytes.

        Raises
        ------
        BrokenOffError
            ``pdu-too-large``, ``dataset-too-large``, ``command-too-large``, ``pipelined`` or ``bad-framing``.
        """
        at = 0
        while at < len(block):
            if not self.pdu_left:
                at = self._pdu_header(block, at)
            elif self.in_data and not self.pdv_left:
                at = self._pdv_header(block, at)
            else:
                step = min(len(block) - at, self.pdv_left if self.in_data else self.pdu_left)
                at += step
                self.pdu_left -= step
                self.pdv_left -= step if self.in_data else 0

    def answered(self) -> None:
        """We sent a P-DATA-TF, that is the answer to one request."""
        self.unanswered = max(0, self.unanswered - 1)

    def _collect(self, block: bytes, at: int, size: int) -> int:
        taken = block[at : at + size - len(self.head)]
        self.head += taken
        return at + len(taken)

    def _pdu_header(self, block: bytes, at: int) -> int:
        at = self._collect(block, at, HEADER)
        if len(self.head) == HEADER:
            kind, _, length = struct.unpack(">BBL", self.head)
            # an unknown type has no business with a body: pynetdicom answers it by an abort
            if length > (self.pdu_bytes if kind == P_DATA_TF else LIMIT_OF.get(kind, 0)):
                raise BrokenOffError("pdu-too-large")
            self.pdu_left, self.in_data = length, kind == P_DATA_TF
            self.head.clear()
        return at

    def _pdv_header(self, block: bytes, at: int) -> int:
        """Length, context and message control header of a presentation data value (PS3.8 9.3.5.1 and E.2)."""
        before = len(self.head)
        at = self._collect(block, at, 6)
        self.pdu_left -= len(self.head) - before
        if len(self.head) < 6:
            if not self.pdu_left:
                raise BrokenOffError("bad-framing")
            return at
        length, _, control = struct.unpack(">LBB", self.head)
        self.head.clear()
        self.pdv_left = length - 2
        if self.pdv_left < 0 or self.pdv_left > self.pdu_left:
            raise BrokenOffError("bad-framing")
        self._fragment(self.pdv_left, is_command=bool(control & 1), is_last=bool(control & 2))
        return at

    def _fragment(self, size: int, *, is_command: bool, is_last: bool) -> None:
        if is_command:
            self.command += size
            if self.command > COMMAND_BYTES:
                raise BrokenOffError("command-too-large")
            if is_last:
                self.command = 0
                self.unanswered += 1
                if self.unanswered > 1:  # nobody negotiated asynchronous operations (PS3.7 D.3.3.3)
                    raise BrokenOffError("pipelined")
            return
        self.data += size
        if self.data > self.dataset_bytes:
            raise BrokenOffError("dataset-too-large")
        if is_last:
            self.data = 0


class GuardedSocket:
    """The part of a socket that pynetdicom uses, with a meter and a clock.

    Parameters
    ----------
    patience_s : a PDU that has begun must be whole within so long, however its bytes trickle in
    on_break : told the code of the limit that was broken
    """

    def __init__(
        self, connection: socket.socket, meter: PduMeter, *, patience_s: float, on_break: Callable[[str], None]
    ) -> None:
        self._connection, self._meter, self._on_break = connection, meter, on_break
        self._patience_s = patience_s
        self._deadline: float | None = None

    def recv(self, size: int) -> bytes:
        """Up to ``size`` bytes of the PDU at hand.

        Raises
        ------
        BrokenOffError, TimeoutError, OSError
            All of which mean to pynetdicom that the connection is gone.
        """
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._patience_s
        try:
            if now >= self._deadline:
                raise BrokenOffError("too-slow")
            self._connection.settimeout(self._deadline - now)
            block = self._connection.recv(size)
            self._meter.feed(block)
        except TimeoutError as error:
            self._on_break("too-slow")
            raise BrokenOffError("too-slow") from error
        except BrokenOffError as error:
            self._on_break(error.code)
            raise
        if self._meter.between:
            self._deadline = None
        return block

    def send(self, data: bytes) -> int:
        """Send an answer; a peer that does not read is given up as one that does not write."""
        self._connection.settimeout(self._patience_s)
        sent = self._connection.send(data)
        if data[:1] == bytes([P_DATA_TF]):
            self._meter.answered()
        return sent

    def fileno(self) -> int:
        return self._connection.fileno()

    def shutdown(self, how: int) -> None:
        """Never raises: pynetdicom closes a socket only after a shutdown that went well."""
        with suppress(OSError):
            self._connection.shutdown(how)

    def close(self) -> None:
        self._connection.close()
