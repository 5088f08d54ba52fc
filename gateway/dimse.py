"""The C-STORE service: who may call, which contexts are accepted, and the server that pynetdicom runs behind a guard.

What becomes of an instance is ``receive``'s. Nothing that a peer says about itself or a patient is logged.
"""

import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from socketserver import BaseServer
from typing import Any
from weakref import WeakSet

import structlog
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from gateway.guard import GuardedSocket, PduMeter
from gateway.receive import Identity, Receiver
from reacquire.dicom.checks import MR_IMAGE
from reacquire.dicom.frames import ENHANCED_MR
from reacquire.dicom.quiet import neutral_warnings
from reacquire.dicom.syntaxes import SYNTAXES, unavailable
from reacquire.jobs.logs import describe
from reacquire.pacs.config import ScpConfig

log = structlog.get_logger("gateway")

NATIVE = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")  # what every sender can send comes first
PDU_BYTES = 128 * 2**10
CONNECTIONS_PER_ASSOCIATION = 4  # beyond so many open connections new ones are closed unheard
FAILED = 0x0110  # processing failure (PS3.7 C.4.1.2): the sender keeps the object

Count = Callable[[str, str], None]  # (what, outcome), for metrics


def transfer_syntaxes() -> list[str]:
    """What we decode, uncompressed first; deflated data sets are left out (a few KB may inflate without bound)."""
    known = [str(s.uid) for s in SYNTAXES.values() if not s.deflated and s.name not in unavailable()]
    return [*NATIVE, *(uid for uid in known if uid not in NATIVE)]


def application_entity(config: ScpConfig) -> AE:
    """Who we are and what we take: MR, Enhanced MR and Verification, from known callers who know our name."""
    _config.LOG_HANDLER_LEVEL = "none"  # its messages quote identifiers, and nobody would read them
    ae = AE(config.ae_title)
    ae.require_called_aet = True
    ae.require_calling_aet = list(config.allowed_callers)
    ae.maximum_associations = config.most_associations
    ae.acse_timeout = ae.dimse_timeout = config.patience_s
    ae.network_timeout = config.idle_s
    ae.maximum_pdu_size = PDU_BYTES
    for sop_class in (MR_IMAGE, ENHANCED_MR):
        ae.add_supported_context(UID(sop_class), transfer_syntaxes())
    ae.add_supported_context(Verification, list(NATIVE))
    return ae


class GuardedServer(ThreadedAssociationServer):
    """pynetdicom's server with a guard between it and every connection."""

    def __init__(self, *args: Any, guard: Callable[[socket.socket], GuardedSocket], most: int, **kwargs: Any) -> None:
        self._guard, self._most = guard, most
        super().__init__(*args, **kwargs)

    def get_request(self) -> Any:
        assert self.socket is not None  # since the constructor bound it
        connection, address = self.socket.accept()
        return self._guard(connection), address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """socketserver asks before it starts a thread; on False the connection is closed."""
        return len(self.active_associations) < self._most

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """socketserver would print a traceback with the peer's address."""
        log.warning("connection failed", error=describe(sys.exc_info()[1] or RuntimeError()))

    def shutdown(self) -> None:
        """End the loop and close the door; pynetdicom's own looks for us among servers that it started."""
        BaseServer.shutdown(self)
        self.server_close()


@dataclass
class Scp:
    """The running SCP: a server thread, and the associations that it started."""

    config: ScpConfig
    receiver: Receiver
    count: Count = lambda _what, _outcome: None
    _server: Any = field(default=None, repr=False)
    _open: WeakSet[GuardedSocket] = field(default_factory=WeakSet, repr=False)

    def start(self) -> int:
        """Listen; the port (which is the configured one unless that is 0)."""
        ae = application_entity(self.config)
        self._server = ae.make_server(
            (self.config.host, self.config.port),
            evt_handlers=[(evt.EVT_C_STORE, self._on_store), *self._notices()],
            server_class=GuardedServer,
            guard=self._guarded,
            most=CONNECTIONS_PER_ASSOCIATION * self.config.most_associations,
        )
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="scp", daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self, grace_s: float = 10.0) -> None:
        """Take no one new, let associations finish, then end them: what was not acknowledged is sent again."""
        self._server.shutdown()
        deadline = time.monotonic() + grace_s
        while self._server.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self._server.active_associations
        for association in left:
            if association.is_established:
                association.abort()
        for connection in list(self._open):
            connection.shutdown(socket.SHUT_RDWR)  # whoever waits for it wakes up
        for association in left:
            association.join(self.config.patience_s + 1)
        for connection in list(self._open):
            connection.close()

    @property
    def associations(self) -> int:
        return len(self._server.active_associations)

    def _guarded(self, connection: socket.socket) -> GuardedSocket:
        meter = PduMeter(pdu_bytes=PDU_BYTES, dataset_bytes=self.receiver.limits.instance_bytes)
        on_break = partial(self.count, "association")
        guarded = GuardedSocket(connection, meter, patience_s=self.config.patience_s, on_break=on_break)
        self._open.add(guarded)
        return guarded

    def _notices(self) -> Sequence[tuple[Any, Callable[[Event], None]]]:
        """Counting only."""

        def accepted(event: Event) -> None:
            self.count("association", "accepted")
            for _ in event.assoc.rejected_contexts:
                self.count("context", "rejected")  # e.g. a report offered to an MR receiver: nothing of it reaches us

        def rejected(_: Event) -> None:
            self.count("association", "rejected")

        return ((evt.EVT_ACCEPTED, accepted), (evt.EVT_REJECTED, rejected))

    def _on_store(self, event: Event) -> int:
        """Answer one C-STORE request; success is only ever said of what is on disk."""
        try:
            request: Any = event.request  # a C-STORE request
            claimed = Identity(str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
            answer = self.receiver.receive(claimed, partial(_file_of, event))
        except Exception as error:
            log.error("instance not taken", error=describe(error))
            self.count("instance", "failed")
            return FAILED
        self.count("instance", answer.fate)
        if answer.code is not None:
            log.info("instance not usable", fate=answer.fate, code=answer.code)
        return answer.status


def _file_of(event: Event) -> bytes:
    """The instance as a file (PS3.10): 128 zero bytes, meta information of our own, the data set as it was sent."""
    with neutral_warnings():  # pydicom quotes a malformed UID
        data: bytes = event.encoded_dataset()
    return data
