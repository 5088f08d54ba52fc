"""How long a client may take over a request: a slow one must not hold a connection, or memory, for ever.

uvicorn bounds how long a connection may idle between two requests but not how long a request may take to arrive. Here
the head has a deadline in the protocol (before it is whole there is no request that middleware could see), the body a
least rate in ``SlowBody``, as Apache's mod_reqtimeout has it.
"""

import asyncio
import socket
import time
from contextlib import suppress
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
UNREAD_S = 60.0


class PatientProtocol(H11Protocol):
    """uvicorn's own protocol that closes a connection whose request head is not there ``HEAD_S`` after its first byte.

    The clock starts with the connection as well: one that says nothing is no better. A client that does not read its
    answer is cut off by the kernel (TCP_USER_TIMEOUT, tcp(7)).
    """

    head_s = HEAD_S
    unread_s = UNREAD_S
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        with suppress(OSError, AttributeError):  # a unix socket, or a system without this option
            door = transport.get_extra_info("socket")
            door.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * self.unread_s))
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        self._expect_head()
        super().data_received(data)
        if self._in_request():
            self._forget_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _in_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._head_timer is None and not self._in_request():
            self._head_timer = self.loop.call_later(self.head_s, self._give_up)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self._in_request() and not self.transport.is_closing():
            self.transport.close()


class SlowBody:
    """Ends a request with 408 whose body arrives slower than ``rate`` bytes/s after ``grace_s`` seconds."""

    def __init__(self, app: ASGIApp, grace_s: float, rate: int) -> None:
        self._app = app
        self._grace_s = grace_s
        self._rate = rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, received, whole = time.monotonic(), 0, False

        async def receive_in_time() -> Message:
            nonlocal received, whole
            if whole:  # what comes now is the disconnection, which may take as long as it likes
                return await receive()
            left = started + self._grace_s + received / self._rate - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408) from None
            received += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, send)
