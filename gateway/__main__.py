"""``python -m gateway``: the courier as a process. Exit status 2 for settings that can't be used."""

import os
import signal
import socket
import sys
import threading
import time
import uuid
from typing import NoReturn

import structlog
import yaml
from pydantic import ValidationError

from gateway.courier import Courier, connector
from gateway.metrics import CourierMetrics
from gateway.settings import GatewaySettings
from reacquire import __version__
from reacquire.jobs.ends import EndWitness, open_trail
from reacquire.jobs.intake import Intake
from reacquire.jobs.leases import Leases
from reacquire.jobs.logs import describe, set_up
from reacquire.jobs.presence import Presence, WorkerInfo
from reacquire.jobs.pulse import Pulse
from reacquire.jobs.reconciler import Reconciler
from reacquire.jobs.tracing import open_tracing
from reacquire.pacs.config import PacsConfig, load_pacs_config
from reacquire.pacs.dicomweb import tls_context
from reacquire.pacs.secrets import read_secret
from reacquire.pacs.webhook import Notifier, webhook_client

log = structlog.get_logger("gateway")

NOTIFY_S = 1.0


def refuse(text: str) -> NoReturn:
    log.error("courier refuses to start", reason=text)
    raise SystemExit(2)


def usable(settings: GatewaySettings) -> PacsConfig:
    """The configuration, its secrets and certificates tried once: what can't work must not start."""
    try:
        config = load_pacs_config(settings.pacs_config)
        for site in config.sites.values():
            read_secret(site.auth.secret_env, site.auth.secret_file, os.environ)
            tls_context(site)
    except (ValidationError, yaml.YAMLError) as error:
        refuse(f"the PACS configuration is not valid: {reasons(error)}")
    except (LookupError, OSError) as error:
        refuse(str(error))
    return config


def reasons(error: ValidationError | yaml.YAMLError) -> str:
    """What is wrong and where, without the values."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
    return type(error).__name__


def notifier(config: PacsConfig, intake: Intake, metrics: CourierMetrics) -> Notifier | None:
    """Who tells the webhook; None without one."""
    if config.webhook is None:
        return None
    try:
        secret = (read_secret(config.webhook.secret_env, config.webhook.secret_file, os.environ) or "").encode()
        return Notifier(
            str(config.webhook.url),
            secret,
            intake.store,
            webhook_client(),
            time.time,
            api=str(config.webhook.api_url) if config.webhook.api_url else None,
            on_outcome=lambda _job, outcome: metrics.notices.labels(outcome).inc(),
        )
    except (LookupError, ValueError) as error:
        refuse(str(error))


def tell(notifier: Notifier, stopping: threading.Event) -> None:
    """Send what is due about once a second, until ``stopping``."""
    while not stopping.wait(NOTIFY_S):
        try:
            notifier.drain()
        except Exception as error:  # an outage of Redis: notices wait in the store
            log.warning("notices not sent", error=describe(error))


def serve(settings: GatewaySettings, config: PacsConfig) -> int:
    """Work until SIGTERM or SIGINT; the exit status."""
    name = f"courier-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    intake, metrics, stopping = Intake.open(settings), CourierMetrics(), threading.Event()
    leases = Leases(intake.store)

    def secret(site: str) -> str | None:  # read anew each time: tokens are rotated
        auth = config.sites[site].auth
        return read_secret(auth.secret_env, auth.secret_file, os.environ)

    witness = EndWitness(open_trail(settings, "gateway"), name)
    tracing = open_tracing("gateway", wanted=settings.tracing)
    witness.start()
    connect = connector(config, secret, intake.limits, leases)
    courier = Courier(name, settings, config, intake, leases, metrics, connect, witness=witness, tracing=tracing)
    presence = Presence(intake.store)

    def measure() -> None:
        witness.flush()
        metrics.unwritten.set(witness.waiting)

    pulse = Pulse(
        settings,
        WorkerInfo(name, "none", "none", __version__, role="courier"),
        presence=presence,
        leases=leases,
        reconciler=Reconciler(intake.store, presence, intake.publisher, intake.blobs, witness),
        measure=measure,
        ready_file=settings.ready_file,
    )
    telling = notifier(config, intake, metrics)
    if telling is not None:
        threading.Thread(target=tell, args=(telling, stopping), name="notices", daemon=True).start()
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_host, settings.metrics_port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    pulse.start()
    log.info("courier ready", courier=name, sites=len(config.sites), rules=len(config.rules))
    try:
        courier.run(stopping)
    finally:
        pulse.stop()
        witness.close()
        tracing.close()
        log.info("courier stopped", courier=name)
    return 0


def main() -> int:
    """Run a courier with the settings of the environment."""
    set_up("gateway", "info")
    try:
        settings = GatewaySettings()
    except ValidationError as error:
        refuse(reasons(error))
    set_up("gateway", settings.log_level)
    try:
        return serve(settings, usable(settings))
    except ImportError as error:
        refuse(str(error))


if __name__ == "__main__":
    sys.exit(main())
