"""What service and worker must agree on: where jobs live and how long things last, as a frozen value.

The library does not read the environment; the settings classes of ``service`` and ``worker`` inherit these fields.
"""

import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from reacquire.access.placeholder import check_secret


def default_blob_url() -> str:
    """A folder of the machine's temporary directory; only sensible when service and worker share the machine."""
    return (Path(tempfile.gettempdir()) / "reacquire" / "blobs").as_uri()


class JobsConfig(BaseModel):
    """Shared configuration of the job store, the broker and the blob store. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="job records and broker; redis://, rediss:// or unix://"
    )
    blob_url: str = Field(default_factory=default_blob_url, description="file:///folder or s3://bucket/prefix")
    key_prefix: str = Field("reacquire", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="first part of each Redis key")
    lease_s: float = Field(30.0, gt=0, le=3600, description="a worker silent for so long loses its jobs")
    max_attempts: int = Field(3, ge=1, le=100, description="a job that outlives so many workers fails")
    job_timeout_s: float = Field(3600.0, gt=0, description="longest run of one job; the worker gives up after it")
    republish_s: float = Field(30.0, gt=0, description="a queued job whose message seems lost is sent again")
    max_queue: int = Field(1000, ge=1, description="waiting jobs beyond which new ones are refused")
    result_ttl_s: float = Field(86_400.0, gt=0, description="how long results are kept")
    tombstone_ttl_s: float = Field(604_800.0, gt=0, description="how long an expired job is still known as expired")
    idempotency_ttl_s: float = Field(86_400.0, gt=0, description="how long an Idempotency-Key is remembered")
    worker_stale_s: float = Field(15.0, gt=0, description="a worker without a heartbeat for so long counts as gone")

    trail_dir: Path | None = Field(None, description="folder of the audit trail; none is kept without it")
    trail_retention_days: int | None = Field(
        None, ge=1, description="older days of the trail are removed; default: kept"
    )
    trail_secret: SecretStr | None = Field(
        None, description="key of the marks that stand for instances in the trail; none stand there without it"
    )
    tracing: bool = Field(False, description="OpenTelemetry traces, sent as the OTEL_* variables say (extra otel)")

    @model_validator(mode="after")
    def _real_secrets(self) -> Self:
        """A password of Redis may be short, for others chose it; a placeholder is refused all the same."""
        password = urlsplit(self.redis_url.get_secret_value()).password
        if password:
            check_secret("the password in REACQUIRE_REDIS_URL", unquote(password), least=1)
        if self.trail_secret is not None:
            check_secret("REACQUIRE_TRAIL_SECRET", self.trail_secret.get_secret_value())
        return self

    @property
    def visibility_timeout_s(self) -> float:
        """After so long the broker hands a message out again: later than any job can last (celery/celery#5935)."""
        return 2 * self.job_timeout_s + 60
