"""Before a body is read: who sends it, is it small enough, and is there room for it beside the others. Plain ASGI.

FastAPI reads a body before it asks any dependency, so a stranger's would be in memory before he is turned away.
"""

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reacquire.errors import AccessError, OverloadedError
from reacquire.jobs.record import Failure
from service.doorkeeper import admitted
from service.errors import HTTP_DETAILS, problem_response

PLAIN_BYTES = 2**20  # of a body that is no multipart form: nothing but uploads is larger


class Knock:
    """Refuses a request with a body whose caller is nobody (401); ``identify`` need not ask again for the others.

    What lies below ``hooks`` bears a token of its own.
    """

    def __init__(self, app: ASGIApp, hooks: str) -> None:
        self._app = app
        self._hooks = hooks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and not scope["path"].startswith(self._hooks):
            request = Request(scope)
            try:
                request.state.caller = await run_in_threadpool(admitted, request.app.state.context, request)
            except (AccessError, OverloadedError) as error:
                await problem_response(request, Failure.of(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Room:
    """Counts the bytes of all bodies that are held, up to ``together``; one alone always finds room."""

    def __init__(self, together: int) -> None:
        self._together = together
        self._held = 0

    def take(self, size: int, *, beside: int = 0) -> bool:
        """Whether ``size`` bytes more may be held; ``beside`` of those that are held are the asker's own."""
        if size and self._held > beside and self._held + size > self._together:
            return False
        self._held += size
        return True

    def give(self, size: int) -> None:
        self._held -= size


class BodyLimit:
    """Ends a request whose body is too large (413), or finds no room beside the others (503), as soon as it shows.

    An upload may have ``largest`` bytes, any other body ``PLAIN_BYTES``. A handler that has put a body away says so by
    ``request.state.let_go()``, so that a client that waits for its result takes no room.
    """

    def __init__(self, app: ASGIApp, largest: int, together: int) -> None:
        self._app = app
        self._largest = largest
        self._room = Room(together)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, headers = Request(scope), Headers(scope=scope)
        upload = headers.get("content-type", "").lower().startswith("multipart/")
        largest = self._largest if upload else min(self._largest, PLAIN_BYTES)
        declared = headers.get("content-length", "0")
        held = int(declared) if declared.isdigit() else 0
        code = "too-large" if held > largest else "" if self._room.take(held) else "overloaded"
        if code:
            await problem_response(request, Failure(code, HTTP_DETAILS[code]))(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal held, received
            message = await receive()
            received += len(message.get("body", b""))
            if received > largest:
                raise HTTPException(413)
            if received > held:  # it had not said how many there would be
                if not self._room.take(received - held, beside=held):
                    raise HTTPException(503)
                held = received
            return message

        def let_go() -> None:
            nonlocal held
            self._room.give(held)
            held = 0

        request.state.let_go = let_go
        try:
            await self._app(scope, receive_counted, send)
        finally:
            let_go()
