"""The sockets of the API process: the clients' port and, where one is set, the inner one, both on one event loop.

One loop on purpose: a probe that answered from a thread of its own would call a process alive that serves nobody.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from service.app import create_inner_app
from service.patience import PatientProtocol
from service.settings import ServiceSettings

GRACE_S = 20  # how long open requests may take after SIGTERM
KEEP_ALIVE_S = 15  # an idle connection; longer than the pause between two polls of a client
INNER_CONNECTIONS = 64


class InnerServer(uvicorn.Server):
    """A second server in a process whose signals belong to the first one."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def outer_server(app: FastAPI, settings: ServiceSettings) -> uvicorn.Server:
    """The server of the clients' port. It bounds how many connections there are and how long a request may dawdle."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=PatientProtocol,
            ws="none",
            limit_concurrency=settings.max_connections,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            log_config=None,
            access_log=False,  # ours names routes, not paths
            server_header=False,
        )
    )


def inner_server(app: FastAPI) -> InnerServer:
    """The server of probes and metrics; it lives as long as the outer one and has no lifespan of its own."""
    return InnerServer(
        uvicorn.Config(
            create_inner_app(app),
            http=PatientProtocol,
            ws="none",
            lifespan="off",
            limit_concurrency=INNER_CONNECTIONS,
            log_config=None,
            access_log=False,
            server_header=False,
        )
    )


def inner_socket(settings: ServiceSettings) -> socket.socket | None:
    """The inner port, bound; None without one.

    Raises
    ------
    OSError
        When the address cannot be bound.
    """
    if settings.metrics_port is None:
        return None
    family = socket.AF_INET6 if ":" in settings.metrics_host else socket.AF_INET
    return socket.create_server((settings.metrics_host, settings.metrics_port), family=family)


async def _both(outer: uvicorn.Server, inner: uvicorn.Server, door: socket.socket) -> None:
    probes = asyncio.create_task(inner.serve(sockets=[door]))
    try:
        await outer.serve()
    finally:  # probes answer until the last request is done
        inner.should_exit = True
        await probes


def serve(app: FastAPI, settings: ServiceSettings, door: socket.socket | None) -> None:
    """Serve until a signal comes."""
    outer = outer_server(app, settings)
    if door is None:
        outer.run()
    else:
        asyncio.run(_both(outer, inner_server(app), door))
