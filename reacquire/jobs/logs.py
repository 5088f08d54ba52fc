"""How a program logs: JSON objects of fields on one stream, no free text from data. The programs call ``set_up``."""

import logging
import sys
import threading
import traceback
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger


def _without_values(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace an exception by its type and frames.

    Texts of foreign exceptions quote what they choked on (pydicom quotes header values), so they are never logged.
    """
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else None
    if error is not None:
        event["error"] = describe(error)
    return event


def describe(error: BaseException) -> dict[str, Any]:
    """Type and frames of an exception, without its text."""
    frames = traceback.extract_tb(error.__traceback__)[-12:]
    return {
        "type": type(error).__name__,
        "frames": [f"{frame.filename.rsplit('/', 2)[-1]}:{frame.lineno}:{frame.name}" for frame in frames],
    }


TRUSTED = frozenset(
    {"root", "service", "worker", "gateway", "cli", "reacquire", "celery", "kombu", "redis", "uvicorn", "asyncio"}
)
# They name addresses, and so UIDs, or attributes of what they pass on; even their withheld lines would only be noise.
TALKATIVE = ("httpx", "httpcore", "urllib3", "pynetdicom", "pydicom", "highdicom", "kombu")


PLAIN = frozenset(logging.makeLogRecord({}).__dict__)


def withhold_foreign_text(record: logging.LogRecord) -> bool:
    """A filter that keeps a record and drops its text, unless it comes from a logger that never sees header values.

    pydicom logs and warns with the very value that it dislikes.
    """
    if record.name.split(".")[0] not in TRUSTED:
        record.msg, record.args = "a library said something; its text is withheld", ()
        for name in record.__dict__.keys() - PLAIN:  # fields of its own, and what another handler has formatted
            del record.__dict__[name]
    return True


def set_up(program: str, level: str, stream: TextIO | None = None) -> None:
    """JSON lines on ``stream`` (stderr), for structlog and for libraries alike, and for what ends a thread.

    Parameters
    ----------
    program : name of the logger that reports uncaught errors
    level : debug, info, warning or error
    """
    root = logging.getLogger()
    root.handlers[:] = [json_handler(sys.stderr if stream is None else stream)]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a record that cannot be formatted would be printed with its arguments
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )

    def uncaught(error: BaseException | None) -> None:
        """What ends the process, or a thread, is logged without its text, as everything else is."""
        if error is not None:
            structlog.get_logger(program).critical("uncaught error", error=describe(error))

    sys.excepthook = lambda _type, error, _trace: uncaught(error)
    sys.unraisablehook = lambda found: uncaught(found.exc_value)
    threading.excepthook = lambda found: uncaught(found.exc_value)


def json_handler(stream: TextIO) -> logging.Handler:
    """A handler for the root logger: JSON lines, nothing of what other libraries quote."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(json_formatter())
    handler.addFilter(withhold_foreign_text)
    return handler


def processors() -> list[Any]:
    """What every record passes, whether from structlog or from a library's standard logger."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_values,
    ]


def json_formatter() -> logging.Formatter:
    """A formatter for standard handlers that renders one JSON object a line."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*processors(), structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _without_values,
            structlog.processors.JSONRenderer(),
        ],
    )
