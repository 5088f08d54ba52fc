"""``python -m service``: the API process. Exit status 2 for settings that can't be used."""

import ctypes
import gc
import signal
import sys
from contextlib import suppress
from typing import NoReturn

import structlog
import yaml
from pydantic import ValidationError

from reacquire.jobs.logs import describe, set_up
from service.app import create_app
from service.servers import inner_socket, serve
from service.settings import ServiceSettings

M_MMAP_THRESHOLD, MMAP_FROM = -3, 2**17  # malloc.h; bytes


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
    set_up("service", "info")
    try:
        settings = ServiceSettings()
        set_up("service", settings.log_level)
        app = create_app(settings)
        door = inner_socket(settings)
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        structlog.get_logger("service").error("service refuses to start", reason=reasons)
        return 2
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = (
            "REACQUIRE_PACS_CONFIG, REACQUIRE_KEYS_FILE or REACQUIRE_TRAIL_DIR names a file that cannot be used, "
            "or REACQUIRE_METRICS_PORT is taken"
        )
        structlog.get_logger("service").error("service refuses to start", reason=reason, error=describe(error))
        return 2
    except ImportError as error:
        structlog.get_logger("service").error("service refuses to start", reason=str(error))
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn stops in order, then raises the signal again
        signal.signal(number, _leave)
    gc.freeze()  # what is there by now stays: full collections, which every open request waits for, pass it by
    serve(app, settings, door)
    return 0


if __name__ == "__main__":
    sys.exit(main())
