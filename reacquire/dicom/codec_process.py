"""The process that C decoders run in: a script of its own, started by ``guard``, that imports nothing of this package.

It waits on its standard input and forks once per codestream, so that each is decoded in a fresh address space under
limits of its own: what a hostile stream corrupts, dies with the fork, and the next patient's image never meets it.
Standard output carries replies only; whatever the codecs print goes nowhere.

Request: length (8 bytes, little endian), JSON order of that length, codestream of the order's ``bytes``.
Reply: a status letter, length (8 bytes), that many bytes. P pixels, E the codec refused, U no such decoder,
M out of memory, T out of time, D died.
"""

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Decode = Callable[[dict[str, Any], bytes], bytes]
READY = b"R"


def decode(order: dict[str, Any], stream: bytes) -> bytes:
    """Little-endian 16-bit words of one grey image, in two's complement, whatever sign the codec chose."""
    import numpy as np
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    decoder = get_decoder(order["uid"])
    if order["plugin"] not in decoder.available_plugins:
        raise LookupError(order["plugin"])
    options: dict[str, Any] = {
        "rows": order["rows"],
        "columns": order["columns"],
        "bits_allocated": 16,
        "bits_stored": order["bits"],
        "pixel_representation": int(order["signed"]),
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "photometric_interpretation": "MONOCHROME2",
        "pixel_keyword": "PixelData",
    }
    frames = encapsulate([stream])
    array, _ = decoder.as_array(frames, index=0, raw=True, decoding_plugin=order["plugin"], **options)
    if array.shape != (order["rows"], order["columns"]):
        raise ValueError("another shape")
    return array.astype(np.int32).astype("<u2").tobytes()


def preload() -> None:
    """Import every codec before the first fork, which then starts with all of them."""
    import warnings

    warnings.simplefilter("ignore")  # their texts quote values
    from pydicom.pixels import get_decoder

    for uid in ("4.57", "4.70", "4.80", "4.81", "4.90", "4.91", "4.201", "4.202", "4.203"):
        _ = get_decoder(f"1.2.840.10008.1.2.{uid}").available_plugins


def main(work: Decode = decode) -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that started this one, which then ends us
    replies = os.dup(1)
    widen(0)
    widen(replies)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    preload()
    write_all(replies, READY)
    while head := read_exactly(0, 8):
        order = json.loads(read_exactly(0, struct.unpack("<Q", head)[0]))
        status, payload = _in_a_fork(work, order, read_exactly(0, order["bytes"]))
        write_all(replies, status + struct.pack("<Q", len(payload)) + payload)


def _in_a_fork(work: Decode, order: dict[str, Any], stream: bytes) -> tuple[bytes, bytes]:
    reader, writer = os.pipe()
    widen(writer)
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _work(work, order, stream, writer)
    os.close(writer)
    answer = _collect(reader, order["seconds"])
    os.close(reader)
    if answer is None:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if answer is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return b"T", b""
    return (answer[:1], answer[1:]) if os.WIFEXITED(status) and answer else (b"D", b"")


def _work(work: Decode, order: dict[str, Any], stream: bytes, writer: int) -> None:
    """The fork: decode under limits, write, and leave without any clean-up."""
    try:
        confine(order["memory"], order["seconds"])
        write_all(writer, b"P" + work(order, stream))
    except MemoryError:
        write_all(writer, b"M")
    except LookupError as error:
        write_all(writer, b"U" if error.args == (order["plugin"],) else b"E")
    except BaseException:  # codecs fail in every way there is
        write_all(writer, b"E")
    finally:
        os._exit(0)


def confine(memory: int, seconds: float) -> None:
    """Cap the growth of the address space, the processor time, and core dumps (which would hold pixels)."""
    if sys.platform == "linux":  # others do not keep this limit
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _collect(reader: int, seconds: float) -> bytes | None:
    """Everything the fork writes, or None when it takes too long."""
    deadline = time.monotonic() + seconds
    blocks: list[bytes] = []
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        block = os.read(reader, 1 << 20)
        if not block:
            return b"".join(blocks)
        blocks.append(block)


def widen(pipe: int) -> None:
    """Room for a whole image where the system allows it: fewer turns between writer and reader."""
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)


def read_exactly(fd: int, size: int) -> bytes:
    """``size`` bytes; nothing when the other side has gone."""
    blocks: list[bytes] = []
    while size:
        block = os.read(fd, min(size, 1 << 20))
        if not block:
            return b""
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


if __name__ == "__main__":
    main()
