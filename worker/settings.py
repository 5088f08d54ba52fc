"""What a worker is told, from REACQUIRE_* variables; checked at boot, secrets masked in ``repr``."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from reacquire.dicom.uids import check_uid_root
from reacquire.jobs.config import JobsConfig

DEFAULT_BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "phantom-v1"


class WorkerSettings(BaseSettings, JobsConfig):
    """The shared job settings and those of one worker process (one per GPU)."""

    model_config = SettingsConfigDict(env_prefix="REACQUIRE_", frozen=True, extra="forbid", env_ignore_empty=True)

    bundle: Path = Field(DEFAULT_BUNDLE, description="folder of the weights to serve until another bundle is activated")
    bundles_root: Path | None = Field(
        None, description="folder of bundles that jobs may name and operators activate; default: where bundle lies"
    )
    bundles_kept: int = Field(2, ge=2, le=64, description="most bundles in memory; the least recently used one leaves")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto takes CUDA when there is one")
    uid_root: Annotated[str, AfterValidator(check_uid_root)] | None = Field(
        None, description="the site's own root for the UIDs of results, at most 40 characters; 2.25 UUIDs without one"
    )
    least_support: float = Field(
        0.0, ge=0, le=1, description="targets with a lower support score are refused; 0 only warns of them"
    )
    batch_items: int = Field(64, ge=1, le=1024, description="most jobs in one batch")
    batch_budget: int | None = Field(None, ge=1, description="most slices x steps x pixels in one batch")
    flush_s: float = Field(0.05, gt=0, le=10, description="how long the first job of a batch waits for company")
    storage_patience_s: float = Field(
        900.0, ge=0, description="how long the blob store may be away or full before jobs fail"
    )
    progress_s: float = Field(0.25, gt=0, description="shortest time between two progress reports of a batch")
    metrics_port: int | None = Field(None, ge=1, le=65535, description="port of this worker's own /metrics")
    metrics_host: str = Field("127.0.0.1", description="address of this worker's own /metrics")
    ready_file: Path | None = Field(None, description="touched at each heartbeat once the model is loaded")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
