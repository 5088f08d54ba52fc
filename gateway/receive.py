"""One received instance: which answer its sender gets, and where it goes. No network, no queue.

An object that we cannot use is answered with success and put into quarantine: most senders end the whole transfer at
the first failure, and one odd object must not cost the series. Failure is for what a repetition may cure (no space),
for a request that contradicts its data set, and for bytes that are none (PS3.4 table B.2-1, PS3.7 annex C).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from gateway.spool import Spool, out_of_space
from reacquire.dicom import Limits, inspect, unpack
from reacquire.dicom.limits import DEFAULT
from reacquire.errors import InputError

SUCCESS, NO_RESOURCES, MISMATCH, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
UNREADABLE = frozenset({"corrupt-dataset", "dataset-too-deep", "dataset-too-large"})

AT_ONCE = 2  # instances that are copied, checked and written; the others wait in the one buffer they came in

Fate = Literal["kept", "known", "quarantined", "refused", "no-space"]


@dataclass(frozen=True)
class Identity:
    """What a C-STORE request claims about its data set (PS3.7 9.1.1.1)."""

    class_uid: str
    instance_uid: str


@dataclass(frozen=True)
class Answer:
    """The status for the sender, and for us what became of the object: a fate, and a code of ours."""

    status: int
    fate: Fate
    code: str | None = None


@dataclass(frozen=True)
class Receiver:
    """Decides and stores; safe to share between associations.

    Attributes
    ----------
    least_free_bytes : int
        Below this much free space nothing is taken: a full disk would take quarantine and the queue down as well.
    turns : semaphore
        Bounds memory: an instance is in memory three times while it is handled.
    """

    spool: Spool
    least_free_bytes: int
    limits: Limits = DEFAULT
    turns: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_ONCE), repr=False, compare=False)

    def receive(self, claimed: Identity, read: Callable[[], bytes]) -> Answer:
        """Take an instance.

        Parameters
        ----------
        read : gives the whole file (PS3.10); called only when there is space for it
        """
        if self.spool.free_bytes() < self.least_free_bytes:
            return Answer(NO_RESOURCES, "no-space")
        try:
            with self.turns:
                return self._take(claimed, read())
        except OSError as error:
            if not out_of_space(error):
                raise
            return Answer(NO_RESOURCES, "no-space")

    def _take(self, claimed: Identity, data: bytes) -> Answer:
        try:
            headers = [inspect(member, limits=self.limits) for member in unpack(data, limits=self.limits)]
        except InputError as error:
            if error.code in UNREADABLE:
                return Answer(NOT_UNDERSTOOD, "refused", error.code)
            return self._set_aside(data, error.code)
        header = headers[0]  # the frames of one object share its identity
        origin = header.origin
        if (origin.class_uid, origin.instance_uid) != (claimed.class_uid, claimed.instance_uid):
            return Answer(MISMATCH, "refused", "inconsistent-request")
        kept = self.spool.keep(header.series_key, origin.instance_uid, data)
        if kept == "conflict":
            return self._set_aside(data, "duplicate-instance")
        return Answer(SUCCESS, kept)

    def _set_aside(self, data: bytes, code: str) -> Answer:
        self.spool.quarantine(data, code)
        return Answer(SUCCESS, "quarantined", code)
