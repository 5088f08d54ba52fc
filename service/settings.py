"""What the API process is told, from REACQUIRE_* variables; checked at boot, secrets masked in ``repr``."""

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from reacquire.jobs.config import JobsConfig

MIB = 2**20


def is_loopback(host: str) -> bool:
    """Whether an address to bind can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ServiceSettings(BaseSettings, JobsConfig):
    """The shared job settings and those of the API process."""

    model_config = SettingsConfigDict(env_prefix="REACQUIRE_", frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="address to bind; anything but loopback needs allow_unauthenticated")
    port: int = Field(8000, ge=0, le=65535)
    allow_unauthenticated: bool = Field(False, description="serve other machines although there is no login")
    bundles_root: Path = Field(Path(__file__).resolve().parents[1] / "bundles", description="what /v1/models lists")
    max_body_bytes: int = Field(128 * MIB, ge=1024, description="largest request body")
    max_wait_s: float = Field(60.0, ge=0, le=600, description="longest wait that a Prefer header can ask for")
    default_wait_s: float = Field(10.0, ge=0, description="wait of /segment and /predict-iap without a Prefer header")
    retry_after_s: int = Field(5, ge=1, description="what Retry-After says when there is no capacity")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _only_loopback_without_login(self) -> Self:
        if not is_loopback(self.host) and not self.allow_unauthenticated:
            raise ValueError(
                "there is no login yet, so the service binds loopback only; "
                "set REACQUIRE_ALLOW_UNAUTHENTICATED=true where the network itself protects it"
            )
        return self
