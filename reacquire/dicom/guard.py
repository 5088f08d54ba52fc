"""Compressed pixel data are decoded in a child process with limits on memory and time; this is the parent's side.

C decoders crash, hang and swell on damaged streams, and with them the process. The child (``codec_process``) is
started at the first compressed image, not forked (CUDA does not survive that), and lives until this process ends.
Native data never leave the process.
"""

import atexit
import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from reacquire.dicom.codestream import corrupt
from reacquire.errors import ContainerError, OverloadedError, ReacquireError

SCRIPT = Path(__file__).with_name("codec_process.py")
BASE_S, S_PER_MEGAPIXEL = 5.0, 1.0  # a 448 x 448 slice takes some 10 ms
BASE_MEMORY, MEMORY_PER_PIXEL = 128 * 2**20, 24  # bytes; OpenJPEG holds several 32-bit copies of the image
START_S = 60.0  # the imports, on a machine with better things to do


@dataclass(frozen=True)
class Order:
    """What the child is to decode: transfer syntax, pydicom plugin, and the image that must come out."""

    uid: str
    plugin: str
    rows: int
    columns: int
    bits: int
    signed: bool

    @property
    def seconds(self) -> float:
        return BASE_S + S_PER_MEGAPIXEL * self.rows * self.columns / 1e6

    @property
    def memory(self) -> int:
        return BASE_MEMORY + MEMORY_PER_PIXEL * self.rows * self.columns


class _Gone(Exception):
    """The child has ended or does not answer; never the fault of a codestream, which only meets a fork of it."""


class Guard:
    """One child, its pipes, and a lock: threads take turns.

    Parameters
    ----------
    command : sequence of str or None
        What to start; ``codec_process`` when None.
    seconds : float or None
        Time limit of every order; ``Order.seconds`` when None.
    """

    def __init__(self, command: Sequence[str] | None = None, *, seconds: float | None = None) -> None:
        # -P: the folder of the script must not shadow the standard library
        self._command = list(command or [sys.executable, "-P", str(SCRIPT)])
        self._seconds = seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def decompress(self, order: Order, stream: bytes) -> bytes:
        """The pixels of one codestream as little-endian 16-bit words.

        Raises
        ------
        PixelError
            ``corrupt-pixels`` when the codec refuses the stream or dies of it.
        ContainerError
            ``decompression-limit`` beyond the limits, ``unsupported-transfer-syntax`` without a decoder.
        OverloadedError
            When no child can be started.
        """
        with self._lock:
            try:
                status, pixels = self._ask(order, stream)
            except _Gone:  # ended by someone else, or by memory pressure: another one may do
                self._end()
                try:
                    status, pixels = self._ask(order, stream)
                except _Gone as error:
                    self._end()
                    raise OverloadedError("the process that decodes images does not start") from error
        if status == b"P" and len(pixels) == 2 * order.rows * order.columns:
            return pixels
        raise _failure(status)

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def renew_lock(self) -> None:
        """After a fork: a thread of the other process may have held it."""
        self._lock = threading.Lock()

    def _ask(self, order: Order, stream: bytes) -> tuple[bytes, bytes]:
        child = self._running()
        seconds = self._seconds or order.seconds
        head = {**asdict(order), "bytes": len(stream), "seconds": seconds, "memory": order.memory}
        encoded = json.dumps(head).encode()
        assert child.stdin is not None
        try:
            child.stdin.write(struct.pack("<Q", len(encoded)) + encoded + stream)
            child.stdin.flush()
        except OSError as error:
            raise _Gone from error
        deadline = time.monotonic() + seconds + START_S  # the child enforces the limit; this is for its own sake
        status, length = struct.unpack("<cQ", _receive(child, 9, deadline))
        if length > 2 * order.rows * order.columns:
            raise _Gone
        return status, _receive(child, length, deadline)

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._child is not None and self._owner == os.getpid() and self._child.poll() is None:
            return self._child
        self._end()
        # Nothing else of the environment: secrets do not belong where hostile streams are decoded. One BLAS thread,
        # because threads reserve address space and do not survive a fork.
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        try:
            child = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, env=environment, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise _Gone from error
        self._child, self._owner = child, os.getpid()
        if _receive(child, 1, time.monotonic() + START_S) != b"R":
            raise _Gone
        return child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                pipe and pipe.close()
        if self._owner == os.getpid():  # after a fork the child is the other process's to end
            child.kill()
            child.wait()
        else:
            child.returncode = 0


def _receive(child: "subprocess.Popen[bytes]", size: int, deadline: float) -> bytes:
    assert child.stdout is not None
    waiting = select.poll()  # select() fails in processes with more than 1024 open files
    waiting.register(child.stdout, select.POLLIN)
    blocks: list[bytes] = []
    while size:
        ready = waiting.poll(1000 * max(0.0, deadline - time.monotonic()))
        block = os.read(child.stdout.fileno(), min(size, 1 << 20)) if ready else b""
        if not block:
            raise _Gone
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def _failure(status: bytes) -> ReacquireError:
    if status in (b"T", b"M"):
        return ContainerError("decoding the image takes too much time or memory", code="decompression-limit")
    if status == b"U":
        return ContainerError(
            "no decoder for this transfer syntax is installed; install reacquire[codecs]",
            code="unsupported-transfer-syntax",
            where="TransferSyntaxUID",
        )
    return corrupt("the codestream cannot be decoded")


GUARD = Guard()
atexit.register(GUARD.close)
os.register_at_fork(after_in_child=GUARD.renew_lock)
