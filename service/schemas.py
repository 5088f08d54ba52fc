"""What the API answers in JSON, as pydantic models with examples; how records become answers."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from reacquire.jobs.record import JobRecord
from reacquire.jobs.spec import Operation
from reacquire.jobs.states import WITH_RESULT, Stage, State
from service.errors import problem_document

EXAMPLE_ID = "4f0c9f6f7b1e4f0f9a4e7b7d5c1a2b3c"


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Problem(Answer):
    """RFC 9457 problem details."""

    type: str = Field(examples=["/problems/target-out-of-domain"])
    title: str = Field(examples=["Target out of domain"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["MagneticFieldStrength must be one of 1.5, 3.0"])
    code: str = Field(examples=["target-out-of-domain"])
    instance: str | None = None
    errors: list[dict[str, str]] | None = None
    trace_id: str | None = None


class Progress(Answer):
    step: int = Field(examples=[7])
    steps: int = Field(examples=[20])
    fraction: float = Field(ge=0, le=1, examples=[0.35])


class Batch(Answer):
    """Which run of the networks the job shared."""

    id: str
    size: int


class ArtifactAnswer(Answer):
    name: str = Field(examples=["counterfactual-0001.dcm"])
    media_type: str = Field(examples=["application/dicom"])
    size: int
    sha256: str
    href: str


class RefusalAnswer(Answer):
    """An artifact that the PACS did not take."""

    artifact: str = Field(examples=["counterfactual-0001.dcm"])
    reason: int | None = Field(description="DICOM FailureReason (PS3.18 table 10.5.1-1), if the PACS gave one")


class DeliveryAnswer(Answer):
    """What became of the delivery to a PACS."""

    site: str
    sent: int
    stored: int = Field(description="instances that the PACS lists afterwards")
    failed: list[RefusalAnswer]


class BundleAnswer(Answer):
    """The weights of a job, by name and by the hash of their manifest."""

    name: str = Field(examples=["phantom-v1"])
    version: str = Field(examples=["0.1.0"])
    sha256: str


class Links(Answer):
    self: str = Field(examples=[f"/v1/jobs/{EXAMPLE_ID}"])
    result: str
    events: str
    cancel: str


class Job(Answer):
    """A job as it stands."""

    id: str = Field(examples=[EXAMPLE_ID])
    operation: Operation | Literal["route"]
    status: State
    stage: Stage = Field(description="fetch and deliver speak to a PACS; an upload has only compute")
    cancelling: bool = Field(description="cancelling was asked for and the worker has not let go yet")
    progress: Progress
    attempts: int
    created: datetime
    started: datetime | None
    finished: datetime | None
    expires: datetime | None
    wait_seconds: float | None = Field(description="from submission to the first worker")
    batch: Batch | None
    bundle: BundleAnswer | None = Field(description="the weights that the job was accepted under and runs with")
    error: dict[str, Any] | None = Field(description="the problem that ended a failed job")
    artifacts: list[ArtifactAnswer]
    delivery: DeliveryAnswer | None = Field(description="of an ended job whose results go to a PACS")
    jobs: list[str] = Field(description="what a route job started")
    links: Links


MEDIA_TYPES = {"dcm": "application/dicom", "png": "image/png", "json": "application/json"}


def media_type(name: str) -> str:
    """The media type of an artifact by its file name."""
    return MEDIA_TYPES.get(name.rsplit(".", 1)[-1], "application/octet-stream")


def _time(epoch_ms: int) -> datetime | None:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC) if epoch_ms else None


def job_answer(record: JobRecord) -> Job:
    """The public view of a record."""
    base = f"/v1/jobs/{record.id}"
    fraction = 1.0 if record.state in WITH_RESULT else record.step / record.steps if record.steps else 0.0
    return Job(
        id=record.id,
        operation=record.spec.operation,
        status=record.state,
        stage=record.stage,
        cancelling=record.cancelling and record.state == "running",
        progress=Progress(step=record.step, steps=record.steps, fraction=min(1.0, fraction)),
        attempts=record.attempts,
        created=datetime.fromtimestamp(record.created_ms / 1000, UTC),
        started=_time(record.started_ms),
        finished=_time(record.finished_ms),
        expires=_time(record.expires_ms),
        wait_seconds=(record.started_ms - record.created_ms) / 1000 if record.started_ms else None,
        batch=Batch(id=record.batch_id, size=record.batch_size) if record.batch_id else None,
        bundle=BundleAnswer.model_validate(asdict(record.bundle)) if record.bundle else None,
        error=problem_document(record.failure, instance=base) if record.failure else None,
        artifacts=[
            ArtifactAnswer(
                name=a.name,
                media_type=media_type(a.name),
                size=a.size,
                sha256=a.sha256,
                href=f"{base}/artifacts/{a.name}",
            )
            for a in record.artifacts
        ],
        delivery=DeliveryAnswer.model_validate(asdict(record.delivery)) if record.delivery else None,
        jobs=list(record.children),
        links=Links(self=base, result=f"{base}/result", events=f"{base}/events", cancel=f"{base}/cancel"),
    )
