"""What a courier is told, from REACQUIRE_* variables; checked at boot, secrets masked in ``repr``."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from reacquire.jobs.config import JobsConfig


class GatewaySettings(BaseSettings, JobsConfig):
    """The shared job settings and those of one courier process."""

    model_config = SettingsConfigDict(env_prefix="REACQUIRE_", frozen=True, extra="forbid", env_ignore_empty=True)

    pacs_config: Path | None = Field(None, description="YAML file of sites, rules, SCP and webhook")
    courier_parallel: int = Field(4, ge=1, le=64, description="jobs that one courier works on at the same time")
    pacs_patience_s: float = Field(3600.0, ge=0, description="how long a PACS may be out of reach before its jobs fail")
    poll_s: float = Field(0.2, gt=0, le=10, description="how often a courier looks for jobs")
    metrics_port: int | None = Field(None, ge=1, le=65535, description="port of this process' own /metrics")
    metrics_host: str = Field("127.0.0.1", description="address of this process' own /metrics")
    ready_file: Path | None = Field(None, description="touched at each heartbeat")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
