"""A network namespace of our own, with nothing in it but loopback.

Orthanc 1.10 listens on every address even with RemoteAccessAllowed=false, and has no option to bind it down. Inside a
namespace nobody but the processes that are started there can reach it. Where the kernel does not let us (we are not
root), Orthanc's own answer to strangers (403, and a login) has to do.
"""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000  # sched.h
SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x1 | 0x40  # netdevice(7)


@contextmanager
def own_network() -> Iterator[bool]:
    """This thread, and what it starts, in a namespace of its own; yields whether that was allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            yield False
            return
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))
            yield True
        finally:
            libc.setns(before, CLONE_NEWNET)
    finally:
        os.close(before)
