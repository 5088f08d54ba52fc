"""One YAML file says which PACS we may talk to, which series we take, and what goes back where.

Secrets are never in it: a site names the environment variable or the file that holds its password or token. Whoever
calls us names a site, never an address, so that nobody can make us talk to a host of their choice.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, HttpUrl, model_validator
from pydicom.datadict import dictionary_VR, tag_for_keyword

from reacquire.errors import TargetError
from reacquire.iap import load_vocabulary
from reacquire.jobs.spec import Operation, Options, TargetValue

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
AeTitle = Annotated[str, Field(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$", description="PS3.5 6.2, AE")]
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _pattern(value: object) -> object:
    """YAML reads 3 as a number and NO as a boolean; only the first can mean one thing."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _series_keyword(keyword: str) -> str:
    """A keyword of the data dictionary (PS3.6) whose values are texts or numbers."""
    if tag_for_keyword(keyword) is None:
        raise ValueError("not a DICOM keyword; write it as PS3.6 does, e.g. SeriesDescription")
    if dictionary_VR(keyword) in ("SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN", "OB or OW"):
        raise ValueError("the values of this attribute cannot be compared with a pattern")
    return keyword


Pattern = Annotated[str, BeforeValidator(_pattern), Field(min_length=1)]
Keyword = Annotated[str, AfterValidator(_series_keyword)]


class Strict(BaseModel):
    """Frozen, and closed to unknown keys: a misspelt key in a hospital's file must not be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Auth(Strict):
    """How we log in; ``secret_env`` or ``secret_file`` names where the password or token is."""

    kind: Literal["none", "basic", "bearer"] = "none"
    username: str | None = None
    secret_env: str | None = None
    secret_file: Path | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        given = [s for s in (self.secret_env, self.secret_file) if s is not None]
        if (self.kind != "none") != (len(given) == 1) or (self.kind == "basic") != (self.username is not None):
            raise ValueError(
                "basic needs username and one of secret_env, secret_file; bearer needs one of those; none, none"
            )
        return self


class Tls(Strict):
    """Certificates in PEM files: whom we trust, and who we are (mutual TLS)."""

    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


class Timeouts(Strict):
    """Seconds; ``total_s`` bounds everything that one job does with the site."""

    connect_s: float = Field(5.0, gt=0, le=60)
    read_s: float = Field(30.0, gt=0, le=600)
    total_s: float = Field(600.0, gt=0, le=3600)


class Site(Strict):
    """One PACS with DICOMweb (PS3.18) below ``base_url``."""

    base_url: HttpUrl = Field(description="the root of its DICOMweb services, e.g. https://pacs/dicom-web")
    auth: Auth = Auth()
    tls: Tls = Tls()
    timeouts: Timeouts = Timeouts()
    attempts: int = Field(4, ge=1, le=10, description="tries of one request before its failure counts")


class Action(Strict):
    """One job that a rule starts."""

    operation: Operation
    target: Mapping[str, TargetValue] = Field(default_factory=dict)
    options: Options = Options()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        """Found when the file is loaded, not when the first series arrives."""
        if (self.operation == "counterfactual") != bool(self.target):
            raise ValueError("a counterfactual needs a target, and nothing else has one")
        if self.options.allow_synthetic:
            raise ValueError("allow_synthetic is not for rules: what we deliver would come back")
        try:
            load_vocabulary().validate(self.target)
        except TargetError as error:
            raise ValueError(f"target {error.where}: {error.detail}") from error
        return self


class Rule(Strict):
    """Which series is taken, what is made of it, and where the results go.

    ``when`` maps DICOM keywords of the series to a pattern or a list of patterns (``*`` and ``?``, case ignored, any
    value of a multi-valued attribute may match); every keyword must match.
    """

    name: Name
    when: Annotated[Mapping[Keyword, Pattern | Annotated[list[Pattern], Field(min_length=1)]], Field(min_length=1)]
    least_instances: int = Field(1, ge=1)
    do: Annotated[list[Action], Field(min_length=1)]
    return_to: Name | None = Field(None, description="a site; where the series came from when absent")


class ScpConfig(Strict):
    """The C-STORE SCP (``reacquire scp``)."""

    ae_title: AeTitle = "REACQUIRE"
    host: str = "127.0.0.1"
    port: int = Field(11112, ge=0, le=65535)
    allowed_callers: list[AeTitle] = Field(default_factory=list, description="calling AE titles; empty: any")
    most_associations: int = Field(8, ge=1, le=100)
    series_quiet_s: float = Field(10.0, gt=0, description="a series without a new instance for so long is complete")
    patience_s: float = Field(10.0, gt=0, le=60, description="longest wait for a PDU that has begun, or for a request")
    idle_s: float = Field(30.0, gt=0, le=600, description="an association without a request for so long is ended")
    keep_s: float = Field(3600.0, ge=0, description="how long a series stays in the spool after it was submitted")
    quarantine_days: float = Field(7.0, gt=0, description="after so long what is in quarantine is deleted")
    least_free_bytes: int = Field(512 * 2**20, ge=0, description="free disk space below which we take nothing")

    @model_validator(mode="after")
    def _known_callers(self) -> Self:
        if self.host not in LOOPBACK and not self.allowed_callers:
            raise ValueError("beyond this machine only known callers may send: list their AE titles in allowed_callers")
        return self


class Webhook(Strict):
    """Whom we tell when a job of a rule ends; the body is signed with HMAC-SHA256 under the secret."""

    url: HttpUrl
    secret_env: str | None = None
    secret_file: Path | None = None
    api_url: HttpUrl | None = Field(None, description="where the receiver reaches our API; links are paths without it")

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.secret_env is None) == (self.secret_file is None):
            raise ValueError("a webhook needs one of secret_env, secret_file")
        return self


class PacsConfig(Strict):
    """The whole file."""

    sites: Mapping[Name, Site] = Field(default_factory=dict)
    rules: list[Rule] = Field(default_factory=list)
    scp: ScpConfig = ScpConfig()
    webhook: Webhook | None = None

    @model_validator(mode="after")
    def _known_sites(self) -> Self:
        names = [rule.name for rule in self.rules]
        if len(names) != len(set(names)):
            raise ValueError("two rules have one name")
        for rule in self.rules:
            if rule.return_to is not None and rule.return_to not in self.sites:
                raise ValueError(f"rule {rule.name}: there is no site {rule.return_to}")
        return self


def load_pacs_config(path: Path | None) -> PacsConfig:
    """The configuration in a YAML file, or an empty one for None.

    Raises
    ------
    OSError, yaml.YAMLError, pydantic.ValidationError
        The process must not start with a file that it does not understand.
    """
    if path is None:
        return PacsConfig()
    return PacsConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
