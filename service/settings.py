"""What the API process is told, from REACQUIRE_* variables; checked at boot, secrets masked in ``repr``."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from reacquire.access.address import is_confidential, is_loopback
from reacquire.access.placeholder import check_secret
from reacquire.jobs.config import JobsConfig

MIB = 2**20


class ServiceSettings(BaseSettings, JobsConfig):
    """The shared job settings and those of the API process."""

    model_config = SettingsConfigDict(env_prefix="REACQUIRE_", frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="address to bind; anything but loopback needs a login (access)")
    port: int = Field(8000, ge=0, le=65535)
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="port of /metrics and the probes; without one they share the API's"
    )
    metrics_host: str = Field("127.0.0.1", description="address of that port; it asks nobody for a login")
    allow_unauthenticated: bool = Field(False, description="with access=off, serve other machines all the same")
    access: Literal["off", "keys", "oidc"] = Field("off", description="who is let in; off: whoever reaches the port")
    keys_file: Path | None = Field(None, description="API keys (reacquire keys new); needed by access=keys")
    oidc_issuer: str | None = Field(None, description="issuer of the access tokens; needed by access=oidc")
    oidc_audience: str | None = Field(None, description="audience that a token must name; needed by access=oidc")
    oidc_jwks_url: str | None = Field(None, description="the issuer's keys; by default as its discovery document says")
    oidc_leeway_s: float = Field(30.0, ge=0, le=300, description="how far the clocks may differ")
    oidc_scope_claim: str = Field("scope", description="claim that grants scopes; dots lead into objects")
    oidc_per_minute: int | None = Field(None, ge=1, description="requests a minute that start work, per person")
    oidc_concurrent: int | None = Field(None, ge=1, description="unfinished jobs at one time, per person")
    bundles_root: Path = Field(Path(__file__).resolve().parents[1] / "bundles", description="what /v1/models lists")
    max_body_bytes: int = Field(128 * MIB, ge=1024, description="largest request body")
    bodies_bytes: int = Field(
        256 * MIB, ge=1024, description="bytes of all bodies together that are being read; beyond them 503"
    )
    max_connections: int = Field(1000, ge=1, description="open connections beyond which new ones get 503")
    body_grace_s: float = Field(30.0, gt=0, description="a body may be as slow as it likes for so long")
    body_rate: int = Field(16 * 1024, ge=1, description="bytes/s that it must have brought from then on, else 408")
    max_wait_s: float = Field(60.0, ge=0, le=600, description="longest wait that a Prefer header can ask for")
    default_wait_s: float = Field(10.0, ge=0, description="wait of /segment and /predict-iap without a Prefer header")
    retry_after_s: int = Field(5, ge=1, description="what Retry-After says when there is no capacity")
    pacs_config: Path | None = Field(None, description="YAML file of sites, rules, SCP and webhook")
    hook_token: SecretStr | None = Field(None, description="what the hooks must bear; without one, loopback only")
    hook_token_file: Path | None = Field(None, description="the same, read from a file at each request")
    hook_window_s: float = Field(600.0, gt=0, description="an announcement that waits is not doubled for so long")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _only_loopback_without_login(self) -> Self:
        if self.access == "off" and not is_loopback(self.host) and not self.allow_unauthenticated:
            raise ValueError(
                "without a login the service binds loopback only; set REACQUIRE_ACCESS to keys or oidc, "
                "or REACQUIRE_ALLOW_UNAUTHENTICATED=true where the network itself protects it"
            )
        return self

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        if self.metrics_port is not None and self.metrics_port == self.port:
            raise ValueError("REACQUIRE_METRICS_PORT must differ from REACQUIRE_PORT; leave it out to share one port")
        return self

    @model_validator(mode="after")
    def _complete_access(self) -> Self:
        if self.access == "keys" and self.keys_file is None:
            raise ValueError("REACQUIRE_ACCESS=keys needs REACQUIRE_KEYS_FILE")
        if self.access == "oidc" and not (self.oidc_issuer and self.oidc_audience):
            raise ValueError("REACQUIRE_ACCESS=oidc needs REACQUIRE_OIDC_ISSUER and REACQUIRE_OIDC_AUDIENCE")
        fetched = {"REACQUIRE_OIDC_ISSUER": self.oidc_issuer, "REACQUIRE_OIDC_JWKS_URL": self.oidc_jwks_url}
        for name, url in fetched.items():
            if self.access == "oidc" and url is not None and not is_confidential(url):
                raise ValueError(f"{name} must be an https address: who can change its answer can sign any token")
        return self

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.hook_token is not None and self.hook_token_file is not None:
            raise ValueError("give REACQUIRE_HOOK_TOKEN or REACQUIRE_HOOK_TOKEN_FILE, not both")
        if self.hook_token is not None:
            check_secret("REACQUIRE_HOOK_TOKEN", self.hook_token.get_secret_value())
        return self
