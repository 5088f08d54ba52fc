"""The guard in front of pynetdicom: what is counted, at which byte a connection is broken off, and when."""

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.guard import ASSOCIATE_BYTES, COMMAND_BYTES, BrokenOffError, GuardedSocket, PduMeter

PDU, DATASET = 1000, 4000
COMMAND, LAST = 1, 2


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def pdv(control: int, size: int) -> bytes:
    return struct.pack(">LBB", size + 2, 1, control) + bytes(size)


def p_data(*values: bytes) -> bytes:
    return pdu(4, b"".join(values))


def message(size: int) -> bytes:
    """A request and its data set in PDUs as large as we take."""
    sizes = [PDU - 6] * (size // (PDU - 6)) + [size % (PDU - 6)]
    parts = [p_data(pdv(0, part)) for part in sizes[:-1]]
    return b"".join([p_data(pdv(COMMAND | LAST, 100)), *parts, p_data(pdv(LAST, sizes[-1]))])


def meter() -> PduMeter:
    return PduMeter(pdu_bytes=PDU, dataset_bytes=DATASET)


def broken(stream: bytes) -> tuple[str | None, int]:
    """The limit that a stream breaks, and how many of its bytes were taken before."""
    counter = meter()
    for at in range(len(stream)):
        try:
            counter.feed(stream[at : at + 1])
        except BrokenOffError as error:
            return error.code, at
    return None, len(stream)


@pytest.mark.parametrize("kind", [1, 4])
def test_a_length_is_judged_when_its_last_byte_comes_and_before_anything_is_buffered(kind):
    limit = {1: ASSOCIATE_BYTES, 4: PDU}[kind]
    assert broken(struct.pack(">BBL", kind, 0, limit)) == (None, 6)
    assert broken(struct.pack(">BBL", kind, 0, limit + 1)) == ("pdu-too-large", 5)
    assert broken(struct.pack(">BBL", kind, 0, 2**32 - 1)) == ("pdu-too-large", 5)


@pytest.mark.parametrize("kind", [0, 3, 5, 6, 7, 8, 255])
def test_other_pdus_have_no_room_for_more_than_their_four_bytes(kind):
    assert broken(pdu(kind, bytes(5)))[0] == "pdu-too-large"


def test_a_data_set_over_all_its_pdus_is_capped():
    assert broken(message(DATASET))[0] is None
    assert broken(message(DATASET + 1))[0] == "dataset-too-large"


def test_the_count_begins_anew_with_each_message_that_was_answered():
    counter = meter()
    for _ in range(3):
        counter.feed(message(DATASET))
        counter.answered()
    assert counter.between


def test_a_command_that_never_ends_is_capped():
    endless = p_data(pdv(COMMAND, 900)) * (COMMAND_BYTES // 900 + 1)
    assert broken(endless)[0] == "command-too-large"


def test_requests_that_do_not_wait_for_an_answer_are_not_queued_in_memory():
    assert broken(message(10) + message(10))[0] == "pipelined"


@pytest.mark.parametrize(
    "body", [b"\0\0\0\1\1", struct.pack(">LBB", 1, 1, 0), struct.pack(">LBB", 500, 1, 0), b"\0\0", pdv(0, 4) + b"\0"]
)
def test_values_that_do_not_fill_their_pdu_are_refused(body):
    assert broken(pdu(4, body))[0] == "bad-framing"


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), max_size=30), st.integers(0, DATASET))
def test_how_bytes_are_cut_into_blocks_does_not_matter(cuts, size):
    stream = pdu(1, bytes(200)) + message(size) + pdu(5, bytes(4))
    counter, at = meter(), 0
    for cut in [*cuts, len(stream)]:
        counter.feed(stream[at : at + cut])
        at = min(at + cut, len(stream))
        assert counter.between == (stream[:at] == b"" or whole(stream, at))
    whole_counter = meter()
    whole_counter.feed(stream)
    assert counter == whole_counter


def whole(stream: bytes, upto: int) -> bool:
    at = 0
    while at < upto:
        at += 6 + struct.unpack(">L", stream[at + 2 : at + 6])[0]
    return at == upto


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_noise_is_followed_or_broken_off_but_never_an_error(noise):
    code, taken = broken(noise)
    assert code is not None or taken == len(noise)


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_pdu_that_stops_half_way_ends_the_wait_however_its_bytes_trickle(wire):
    ours, theirs = wire
    codes: list[str] = []
    guarded = GuardedSocket(ours, meter(), patience_s=1.0, on_break=codes.append)
    began = time.monotonic()
    with pytest.raises(OSError, match="too-slow"):
        for byte in pdu(1, bytes(100)):
            theirs.send(bytes([byte]))
            guarded.recv(1)
            time.sleep(0.1)
        raise AssertionError("it was read to its end")
    assert 0.9 < time.monotonic() - began < 8
    assert codes == ["too-slow"]
    began = time.monotonic()
    with pytest.raises(OSError):
        guarded.recv(1)
    assert time.monotonic() - began < 0.9, "what was broken off is not waited for again"


def test_a_silent_peer_ends_the_wait_and_a_quick_one_is_never_hurried(wire):
    ours, theirs = wire
    guarded = GuardedSocket(ours, meter(), patience_s=0.8, on_break=lambda _: None)
    for _ in range(4):
        theirs.send(pdu(5, bytes(4)))
        assert guarded.recv(6) + guarded.recv(4) == pdu(5, bytes(4))
        time.sleep(0.3)  # together longer than the patience, which is for one PDU
    theirs.send(b"\1\0")
    assert guarded.recv(6) == b"\1\0"
    with pytest.raises(BrokenOffError):
        guarded.recv(4)
