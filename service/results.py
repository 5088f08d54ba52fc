"""A finished job's result in the form the client can take: content negotiation over its artifacts (RFC 9110 12.5.1)."""

import base64
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from starlette.responses import Response, StreamingResponse

from reacquire.access import Principal
from reacquire.errors import JobError
from reacquire.jobs.record import Artifact, JobRecord
from reacquire.jobs.states import WITH_RESULT
from service.context import Context
from service.doorkeeper import witness
from service.errors import JobProblem
from service.schemas import media_type

ZIP = "application/zip"
DELIVERY = "delivery.json"
CHUNK = 2**18
SPOOL = 2**23  # a zip larger than this is built on disk

# What a client gets that takes anything, best first.
PREFERENCE = {
    "counterfactual": ("application/dicom", ZIP, "application/json", "image/png"),
    "segment": ("application/dicom", ZIP, "application/json", "image/png"),
    "predict-iap": ("application/json", ZIP, "application/dicom"),
    "route": ("application/json", ZIP),
}


@dataclass(frozen=True)
class Offer:
    """One representation; ``artifact`` None is the zip of all."""

    media_type: str
    artifact: Artifact | None


def finished(record: JobRecord) -> JobRecord:
    """The record itself when it has a result.

    Raises
    ------
    JobProblem
        The job's own error.
    JobError
        ``job-not-finished``, ``job-cancelled`` or ``job-expired``.
    """
    if record.failure is not None and record.state == "failed":
        raise JobProblem(record.failure, record.id)
    if record.state == "expired" or (record.expires_ms and record.expires_ms < time.time() * 1000):
        raise JobError("the result of this job is past its time to live", code="job-expired")
    if record.state == "cancelled":
        raise JobError("this job was cancelled", code="job-cancelled")
    if record.state not in WITH_RESULT:
        raise JobError("this job is not finished; follow its events or ask again", code="job-not-finished")
    return record


def within_reach(record: JobRecord) -> JobRecord:
    """The record itself when it has files to fetch: a result, or what could not be delivered to a PACS.

    Raises
    ------
    JobProblem, JobError
        As ``finished``.
    """
    undelivered = record.state == "failed" and record.artifacts and record.expires_ms > time.time() * 1000
    return record if undelivered else finished(record)


def offers(record: JobRecord) -> list[Offer]:
    """The representations of a result; a type that several artifacts share is offered inside the zip only.

    The account of a delivery is none: the job's status has it too.
    """
    by_type: dict[str, list[Artifact]] = {}
    for artifact in record.artifacts:
        if artifact.name == DELIVERY:
            continue
        by_type.setdefault(media_type(artifact.name), []).append(artifact)
    found = {kind: Offer(kind, items[0]) for kind, items in by_type.items() if len(items) == 1}
    found[ZIP] = Offer(ZIP, None)
    return [found[kind] for kind in PREFERENCE[record.operation] if kind in found]


def negotiate(accept: str, available: Sequence[Offer]) -> Offer:
    """The offer with the highest quality value in ``accept``; ours decides between equals.

    Raises
    ------
    JobError
        ``not-acceptable``, naming what there is.
    """
    ranges = _ranges(accept or "*/*")
    graded = [(_quality(offer.media_type, ranges), -index) for index, offer in enumerate(available)]
    best, position = max(graded)
    if best <= 0:
        kinds = ", ".join(offer.media_type for offer in available)
        raise JobError(f"this result is available as {kinds}", code="not-acceptable", where="Accept")
    return available[-position]


def _ranges(accept: str) -> dict[str, float]:
    ranges = {}
    for part in accept.lower().split(","):
        kind, *parameters = (p.strip() for p in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            ranges[kind] = float(quality)
        except ValueError:
            ranges[kind] = 0.0
    return ranges


def _quality(kind: str, ranges: dict[str, float]) -> float:
    for candidate in (kind, kind.split("/")[0] + "/*", "*/*"):  # the most specific range decides
        if candidate in ranges:
            return ranges[candidate]
    return 0.0


def artifact_response(context: Context, artifact: Artifact) -> Response:
    """One artifact as an answer: a download, with its digest."""
    digest = base64.b64encode(bytes.fromhex(artifact.sha256)).decode()
    kind = media_type(artifact.name)
    headers = {"ETag": f'"{artifact.sha256}"', "Content-Digest": f"sha-256=:{digest}:", "Vary": "Accept, Prefer"}
    if kind != "application/json":
        headers["Content-Disposition"] = f'attachment; filename="{artifact.name}"'
    return Response(context.blobs.get(artifact.key), media_type=kind, headers=headers)


def zip_response(context: Context, record: JobRecord) -> Response:
    """Every artifact in one archive, uncompressed, built one member at a time so that memory stays flat."""
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPOOL)  # noqa: SIM115 (closed by the iterator)
    with zipfile.ZipFile(spool, "w", zipfile.ZIP_STORED) as archive:
        for artifact in record.artifacts:
            archive.writestr(zipfile.ZipInfo(artifact.name), context.blobs.get(artifact.key))
    size = spool.tell()
    spool.seek(0)
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{record.operation}-{record.id}.zip"',
        "Vary": "Accept, Prefer",
    }
    return StreamingResponse(_chunks(spool), media_type=ZIP, headers=headers)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


def handed_out(context: Context, caller: Principal, record: JobRecord, accept: str) -> Response:
    """The result of a finished job in the best form that ``accept`` allows; on record before it leaves."""
    offer = negotiate(accept, offers(finished(record)))
    found = zip_response(context, record) if offer.artifact is None else artifact_response(context, offer.artifact)
    witness(context.trail, "read", caller.id, job=record.id, operation=record.operation)
    return found
