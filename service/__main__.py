"""``python -m service``: the API process. Exit status 2 for settings that can't be used."""

import ctypes
import logging
import signal
import sys
from contextlib import suppress
from typing import NoReturn

import structlog
import uvicorn
from pydantic import ValidationError

from reacquire.jobs.logs import describe, json_handler, processors
from service.app import create_app
from service.settings import ServiceSettings

M_MMAP_THRESHOLD, MMAP_FROM = -3, 2**17  # malloc.h; bytes
GRACE_S = 20  # how long open requests may take after SIGTERM


def configure_logging(level: str) -> None:
    """JSON lines on stderr, for structlog and for libraries alike."""
    logging.basicConfig(handlers=[json_handler(sys.stderr)], level=level.upper(), force=True)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    sys.excepthook = _on_uncaught


def _on_uncaught(_: type[BaseException], error: BaseException, __: object) -> None:
    """What ends the process is logged without its text, as everything else is."""
    structlog.get_logger("service").critical("uncaught error", error=describe(error))


def return_large_blocks() -> None:
    """Keep glibc from hoarding: blocks of uploads are mapped one by one and go back to the system when freed.

    Without a fixed threshold glibc raises it to the size of what was freed and keeps such blocks in its arenas.
    """
    with suppress(OSError, AttributeError):  # another libc has no mallopt
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MMAP_FROM)


def _leave(*_: object) -> NoReturn:
    raise SystemExit(0)


def main() -> int:
    """Serve the API with the settings of the environment."""
    return_large_blocks()
    configure_logging("info")
    try:
        settings = ServiceSettings()
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        structlog.get_logger("service").error("service refuses to start", reason=reasons)
        return 2
    configure_logging(settings.log_level)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn stops in order, then raises the signal again
        signal.signal(number, _leave)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,  # ours names routes, not paths
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
