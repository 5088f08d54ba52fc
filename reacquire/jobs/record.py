"""A job as the store holds it: ids, states, times and counters; never bytes, never a value of a DICOM header."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, TypeAdapter

from reacquire.errors import ReacquireError, every_code
from reacquire.jobs.spec import OperationSpec, Strict
from reacquire.jobs.states import FINISHED, Stage, State


class RouteSpec(Strict):
    """Look at a series of a PACS and start what the rules ask for; not something that the models do."""

    operation: Literal["route"] = "route"


Spec = Annotated[OperationSpec | RouteSpec, Field(discriminator="operation")]
_SPEC: TypeAdapter[OperationSpec | RouteSpec] = TypeAdapter(Spec)


@dataclass(frozen=True)
class Failure:
    """Why a job failed: a stable code, a text without header values, and the keyword it is about."""

    code: str
    detail: str
    where: str | None = None

    @classmethod
    def of(cls, error: ReacquireError) -> "Failure":
        return cls(error.code, error.detail, error.where)

    def to_json(self) -> str:
        return json.dumps({"code": self.code, "detail": self.detail, "where": self.where})

    @classmethod
    def from_json(cls, text: str) -> "Failure":
        data = json.loads(text)
        code = data["code"] if data["code"] in every_code() else "internal-error"  # written by a newer version
        return cls(code, data["detail"], data["where"])


@dataclass(frozen=True)
class BundleRef:
    """Which weights: ``name`` and ``version`` for people, ``sha256`` of the manifest for certainty."""

    name: str
    version: str
    sha256: str

    @property
    def label(self) -> str:
        """``NAME@VERSION``, as requests and commands write it."""
        return f"{self.name}@{self.version}"

    @property
    def series(self) -> str:
        """``NAME-VERSION``, as metrics and heartbeats write it."""
        return f"{self.name}-{self.version}"

    def to_json(self) -> str:
        """The same text for equal references: the store compares it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "BundleRef":
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Artifact:
    """One file of a result: its name, size in bytes, and where its bytes lie in the blob store."""

    name: str
    size: int
    sha256: str
    key: str


@dataclass(frozen=True)
class Refusal:
    """An artifact that the PACS did not take, and its reason as a code of PS3.18 table 10.5.1-1; None: it gave none."""

    artifact: str
    reason: int | None = None


@dataclass(frozen=True)
class Delivery:
    """What became of the delivery to a site: instances sent, those found there afterwards, and the rest by name."""

    site: str
    sent: int
    stored: int
    failed: tuple[Refusal, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Delivery":
        data = json.loads(text)
        return cls(**{**data, "failed": tuple(Refusal(**f) for f in data["failed"])})


class Model(NamedTuple):
    """Which weights: name and version of a bundle as one label, and the digest of its manifest."""

    label: str = "none"
    sha256: str = ""


@dataclass(frozen=True)
class Claim:
    """The right to work on a job until the lease ends; ``token`` fences off whoever held it before."""

    id: str
    token: int


@dataclass(frozen=True)
class JobRecord:
    """Everything that is known about a job. Times are epoch milliseconds of the store's clock, 0 for "not yet".

    Attributes
    ----------
    started_ms, claimed_ms, entered_ms : int
        First claim ever; last claim; when the present stage began to wait.
    trouble_ms, postponed : int
        Since when, and how often, this stage was put off because the PACS was out of reach.
    deliver_to : str
        The site that the results go to; empty for none.
    owner : str
        ``Principal.id`` of who submitted it; empty for hooks, rules and the SCP.
    model, model_sha256 : str
        Name and version of the bundle whose networks ran it, and the digest of its manifest; empty before they did.
    trace : str
        W3C ``traceparent`` of the request that submitted it; empty when traces are off.
    children : tuple of str
        Jobs that this one started (``route``).
    bundle : BundleRef or None
        The weights that the job was accepted under, and is run with; None before any bundle was active.
    """

    id: str
    state: State
    version: int
    spec: OperationSpec | RouteSpec
    inputs: tuple[str, ...]
    created_ms: int
    token: int = 0
    attempts: int = 0
    cancelling: bool = False
    started_ms: int = 0
    finished_ms: int = 0
    expires_ms: int = 0
    step: int = 0
    steps: int = 0
    batch_id: str = ""
    batch_size: int = 0
    model: str = ""
    model_sha256: str = ""
    trace: str = ""
    entered_ms: int = 0
    claimed_ms: int = 0
    trouble_ms: int = 0
    postponed: int = 0
    stage: Stage = "compute"
    deliver_to: str = ""
    notify: bool = False
    owner: str = ""
    children: tuple[str, ...] = ()
    delivery: Delivery | None = None
    failure: Failure | None = None
    artifacts: tuple[Artifact, ...] = field(default=())
    bundle: BundleRef | None = None

    @property
    def operation(self) -> str:
        return self.spec.operation

    @property
    def operation_spec(self) -> OperationSpec:
        """The spec of a job that the models work on.

        Raises
        ------
        TypeError
            For a job of another kind, which has no stage ``compute``.
        """
        if not isinstance(self.spec, OperationSpec):
            raise TypeError("a route job has no operation for the models")
        return self.spec

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @classmethod
    def from_hash(cls, job_id: str, fields: Mapping[str, str]) -> "JobRecord":
        """The record behind the fields of a Redis hash."""
        number = {name: int(fields.get(name) or 0) for name in _NUMBERS}
        return cls(
            id=job_id,
            state=fields["state"],  # type: ignore[arg-type]
            spec=_SPEC.validate_json(fields["spec"]),
            stage=fields.get("stage") or "compute",  # type: ignore[arg-type]
            deliver_to=fields.get("deliver_to", ""),
            notify=fields.get("notify") == "1",
            owner=fields.get("owner", ""),
            children=tuple(json.loads(fields.get("children") or "[]")),
            delivery=Delivery.from_json(fields["delivery"]) if fields.get("delivery") else None,
            inputs=tuple(json.loads(fields.get("inputs") or "[]")),
            cancelling=fields.get("cancel") == "1",
            batch_id=fields.get("batch_id", ""),
            model=fields.get("model", ""),
            model_sha256=fields.get("model_sha256", ""),
            trace=fields.get("trace", ""),
            failure=Failure.from_json(fields["failure"]) if fields.get("failure") else None,
            artifacts=tuple(Artifact(**a) for a in json.loads(fields.get("artifacts") or "[]")),
            bundle=BundleRef.from_json(fields["bundle"]) if fields.get("bundle") else None,
            **number,
        )


_NUMBERS = (
    "version", "token", "attempts", "created_ms", "started_ms", "finished_ms", "expires_ms", "step", "steps",
    "batch_size", "entered_ms", "claimed_ms", "trouble_ms", "postponed",
)  # fmt: skip


def new_job_id() -> str:
    """A fresh, unguessable id; nothing of the request enters it."""
    return uuid.uuid4().hex


def is_job_id(text: str) -> bool:
    """Whether ``text`` could be an id of ours; all else never reaches a Redis key."""
    return len(text) == 32 and all(c in "0123456789abcdef" for c in text)
