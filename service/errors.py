"""One table from error code to HTTP status, and the one shape in which any error leaves the process (RFC 9457).

The detail of a problem is ours: texts of foreign exceptions never reach a client, since they may quote header values.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import obstore.exceptions
import redis
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from reacquire.errors import ReacquireError
from reacquire.jobs.record import Failure

# Every code of the library (reacquire.errors.every_code) and those that only HTTP knows.
STATUS: Mapping[str, int] = {
    # the request as such
    "malformed-request": 400,
    "not-found": 404,
    "method-not-allowed": 405,
    "request-timeout": 408,
    "unsupported-media-type": 415,
    "invalid-request": 422,
    # the container
    "empty-body": 400,
    "not-dicom": 415,
    "unsupported-container": 415,
    "not-part10": 415,
    "dicomdir-not-accepted": 415,
    "unsupported-transfer-syntax": 415,
    "too-large": 413,
    "decompression-limit": 413,
    "unsafe-preamble": 422,
    "unsafe-archive": 422,
    # the data set
    "dataset-too-large": 413,
    "dataset-too-deep": 422,
    "missing-attribute": 422,
    "corrupt-dataset": 422,
    "missing-geometry": 422,
    "invalid-uid": 422,
    "invalid-attribute-value": 422,
    "inconsistent-series": 422,
    "charset": 422,
    "duplicate-instance": 409,
    # the pixels
    "image-too-large": 413,
    "corrupt-pixels": 422,
    "truncated-pixels": 422,
    "no-pixels": 422,
    "invalid-image-attributes": 422,
    "unsupported-photometric": 422,
    "lossy-source": 422,
    "degenerate-image": 422,
    # what the file is
    "unsupported-modality": 422,
    "unsupported-body-part": 422,
    "unsupported-orientation": 422,
    "unsupported-image-type": 422,
    "already-synthetic": 409,
    # what is asked for
    "target-out-of-domain": 422,
    "target-unsupported": 422,
    "not-acceptable": 406,
    # models and jobs
    "model-not-found": 404,
    "model-unavailable": 503,
    "activation-failed": 409,
    "bundle-invalid": 500,
    "job-not-found": 404,
    "job-not-finished": 409,
    "job-finished": 409,
    "job-cancelled": 409,
    "job-failed": 500,
    "job-expired": 410,
    "idempotency-mismatch": 422,
    # a PACS
    "source-not-found": 404,
    "pacs-not-allowed": 403,
    "pacs-unreachable": 502,
    "pacs-refused": 502,
    "pacs-answer-invalid": 502,
    "store-failed": 502,
    # the service
    "unauthorized": 401,
    "forbidden": 403,
    "rate-limited": 429,
    "overloaded": 503,
    "not-ready": 503,
    "internal-error": 500,
}

HTTP_CODES: Mapping[int, str] = {
    400: "malformed-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "too-large",
    415: "unsupported-media-type",
    503: "overloaded",
}

HTTP_DETAILS: Mapping[str, str] = {
    "malformed-request": "the request could not be read; send multipart/form-data as the documentation shows",
    "not-found": "there is nothing at this address; /docs lists what there is",
    "method-not-allowed": "this address has other methods; see the Allow header",
    "request-timeout": "the request body arrived too slowly; try again over a faster connection",
    "too-large": "the request body is larger than this service accepts",
    "unsupported-media-type": "send multipart/form-data with the DICOM file in the field dicom",
    "overloaded": "too many uploads are under way; try again later",
}

PROBLEM = "application/problem+json"


class JobProblem(Exception):
    """A finished job's own error, to be answered with its own status."""

    def __init__(self, failure: Failure, job_id: str) -> None:
        super().__init__(failure.code)
        self.failure = failure
        self.job_id = job_id


def problem_document(
    failure: Failure, *, instance: str | None = None, trace_id: str | None = None, errors: Sequence[Any] = ()
) -> dict[str, Any]:
    """The members of a problem (RFC 9457 section 3.1) and ours: ``code``, ``errors``, ``trace_id``."""
    if failure.where and not errors:
        kind = "pointer" if failure.where.startswith("/") else "keyword"
        errors = [{kind: failure.where, "detail": failure.detail}]
    members = {
        "type": f"/problems/{failure.code}",
        "title": failure.code.replace("-", " ").capitalize(),
        "status": STATUS[failure.code],
        "detail": failure.detail,
        "code": failure.code,
        "instance": instance,
        "errors": list(errors) or None,
        "trace_id": trace_id,
    }
    return {name: value for name, value in members.items() if value is not None}


def problem_response(
    request: Request,
    failure: Failure,
    *,
    instance: str | None = None,
    errors: Sequence[Any] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A failure as the answer to a request."""
    status = STATUS[failure.code]
    extra = dict(headers or {})
    if status in (429, 503):
        extra["Retry-After"] = str(request.app.state.context.settings.retry_after_s)
    if status == 401:
        extra["WWW-Authenticate"] = "Bearer"
    request.state.code = failure.code
    document = problem_document(failure, instance=instance, trace_id=request.state.request_id, errors=errors)
    return JSONResponse(document, status, headers=extra, media_type=PROBLEM)


def _pointer(location: Sequence[int | str]) -> str:
    """The JSON pointer of a validation error; parts that a client made up are left out."""
    parts = [str(p) for p in location if str(p).replace("-", "").replace("_", "").isalnum() and len(str(p)) <= 40]
    return "/" + "/".join(parts[1:] if parts and parts[0] in ("body", "query", "path", "header") else parts)


def validation_errors(found: Sequence[Any], prefix: str = "") -> list[dict[str, str]]:
    """pydantic's findings without the input that caused them."""
    return [{"pointer": prefix + _pointer(e["loc"]), "detail": str(e["msg"])} for e in found]


async def _on_reacquire(request: Request, error: Exception) -> Response:
    assert isinstance(error, ReacquireError)
    return problem_response(request, Failure.of(error))


async def _on_job_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, JobProblem)
    return problem_response(request, error.failure, instance=f"/v1/jobs/{error.job_id}")


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    failure = Failure("invalid-request", "the request does not fit its schema; see errors and /docs")
    return problem_response(request, failure, errors=validation_errors(error.errors()))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTP_CODES.get(error.status_code, "malformed-request" if error.status_code < 500 else "internal-error")
    failure = Failure(code, HTTP_DETAILS.get(code, "the service failed; it has been logged"))
    return problem_response(request, failure, headers=error.headers)


async def _on_outage(request: Request, _: Exception) -> Response:
    failure = Failure("not-ready", "the job store or the storage cannot be reached; try again later")
    return problem_response(request, failure)


def install(app: FastAPI) -> None:
    """Make every error of the application a problem; what none of these catch, the middleware does."""
    app.add_exception_handler(ReacquireError, _on_reacquire)
    app.add_exception_handler(JobProblem, _on_job_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(redis.RedisError, _on_outage)
    app.add_exception_handler(obstore.exceptions.BaseError, _on_outage)
