"""``python -m gateway.scp``: the C-STORE SCP as a process. Exit status 2 for settings that can't be used.

It owns a spool, listens (``dimse``), and submits what is complete (``collect``). Redis may be away for as long as the
disk lasts: what was received waits in the spool.
"""

import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog
import yaml
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.collect import Collector
from gateway.dimse import Scp
from gateway.receive import Receiver
from gateway.spool import Spool, SpoolError
from reacquire.jobs import metrics as names
from reacquire.jobs.config import JobsConfig
from reacquire.jobs.intake import Intake
from reacquire.jobs.logs import describe, set_up
from reacquire.pacs.config import PacsConfig, load_pacs_config

log = structlog.get_logger("gateway")

TICK_S, SWEEP_S = 0.5, 60.0


class ScpSettings(BaseSettings, JobsConfig):
    """The shared job settings and those of the SCP process, from REACQUIRE_* variables."""

    model_config = SettingsConfigDict(env_prefix="REACQUIRE_", frozen=True, extra="forbid", env_ignore_empty=True)

    pacs_config: Path | None = Field(None, description="the YAML file of sites and rules; its `scp` part is ours")
    spool: Path = Field(description="folder for what was received and is not yet a job; on a disk of its own")
    metrics_port: int | None = Field(None, ge=1, le=65535, description="port of this process's own /metrics")
    metrics_host: str = Field("127.0.0.1", description="address of this process's own /metrics")
    ready_file: Path | None = Field(None, description="touched each second while the SCP listens and submits")
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class ScpMetrics:
    """The SCP's Prometheus objects, built from the table of names."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters = {
            "instance": self._counter(names.SCP_INSTANCES),
            "association": self._counter(names.SCP_ASSOCIATIONS),
            "series": self._counter(names.SCP_SERIES),
        }
        self._contexts = self._counter(names.SCP_CONTEXTS)
        self._spooled, self._quarantined, self._free = (
            Gauge(metric.name, metric.help, registry=self.registry)
            for metric in (names.SCP_SPOOLED, names.SCP_QUARANTINED, names.SCP_FREE)
        )

    def _counter(self, metric: names.Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def count(self, what: str, outcome: str) -> None:
        if what == "context":
            self._contexts.inc()
        else:
            self._counters[what].labels(outcome).inc()

    def measure(self, spool: Spool) -> None:
        series, quarantined = spool.counts()
        self._spooled.set(series)
        self._quarantined.set(quarantined)
        self._free.set(spool.free_bytes())


@dataclass(frozen=True)
class Station:
    """The parts of the process, and its loop."""

    scp: Scp
    collector: Collector
    metrics: ScpMetrics
    ready_file: Path | None

    def run(self, stopping: threading.Event) -> None:
        """Listen and submit until told to stop."""
        port = self.scp.start()
        log.info("scp ready", port=port, rules=len(self.collector.config.rules))
        swept = -SWEEP_S
        try:
            while not stopping.wait(TICK_S):
                try:
                    self.collector.tick()
                    if time.monotonic() - swept >= SWEEP_S:
                        swept = time.monotonic()
                        self.collector.sweep()
                    self.metrics.measure(self.collector.spool)
                except OSError as error:  # the disk; the ready file then grows old, and instances are refused
                    log.error("the spool is in trouble", error=describe(error))
                    continue
                if self.ready_file is not None:
                    self.ready_file.touch()
        finally:
            self.scp.stop()
            if self.ready_file is not None:
                self.ready_file.unlink(missing_ok=True)
            log.info("scp stopped")


def build(settings: ScpSettings, config: PacsConfig) -> Station:
    """Put the parts together; raises SpoolError when the spool is another process's."""
    metrics, spool = ScpMetrics(), Spool(settings.spool)
    intake = Intake.open(settings)
    receiver = Receiver(spool, config.scp.least_free_bytes, intake.limits)
    collector = Collector(spool, config, intake, lambda outcome: metrics.count("series", outcome))
    return Station(Scp(config.scp, receiver, metrics.count), collector, metrics, settings.ready_file)


def main() -> int:
    """Run the SCP with the settings of the environment until SIGTERM or SIGINT."""
    set_up("gateway", "info")
    try:
        settings = ScpSettings()
        config = load_pacs_config(settings.pacs_config)
        set_up("gateway", settings.log_level)
        station = build(settings, config)
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        log.error("scp refuses to start", reason=reasons)
        return 2
    except (OSError, yaml.YAMLError, SpoolError) as error:
        reason = "the PACS configuration or the spool cannot be used"
        log.error("scp refuses to start", reason=reason, error=describe(error))
        return 2
    for rule in config.rules:
        if rule.return_to is None:
            log.warning("results of this rule for received series stay here: it has no return_to", rule=rule.name)
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, addr=settings.metrics_host, registry=station.metrics.registry)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    station.run(stopping)
    return 0


if __name__ == "__main__":
    sys.exit(main())
