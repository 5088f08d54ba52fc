"""A TCP proxy in front of a server that can break a request off in its middle, as a cable or a restart does."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

BLOCK = 2**14


@dataclass
class CuttingProxy:
    """Forwards connections to ``target``; while ``cuts`` is above zero, POSTs end after ``after`` bytes."""

    target: tuple[str, int]
    after: int = 100_000
    cuts: int = 0
    cut: int = 0
    _server: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def port(self) -> int:
        port: int = self._server.getsockname()[1]
        return port

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._handle, args=(client,), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _handle(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self.target) as server:
            answers = threading.Thread(target=_copy, args=(server, client), daemon=True)
            answers.start()
            self._forward(client, server)
            answers.join(timeout=60)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        sent, doomed = 0, False
        while block := client.recv(BLOCK):
            if block.startswith(b"POST") and self.cuts > 0:
                sent, doomed, self.cuts = 0, True, self.cuts - 1
            server.sendall(block)
            sent += len(block)
            if doomed and sent > self.after:
                self.cut += 1
                for end in (server, client):
                    end.shutdown(socket.SHUT_RDWR)
                return
        server.shutdown(socket.SHUT_WR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(BLOCK):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def cutting_proxy(port: int) -> Iterator[CuttingProxy]:
    """A proxy before 127.0.0.1:``port``."""
    proxy = CuttingProxy(("127.0.0.1", port))
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(timeout=10)
