"""POST /counterfactual, /segment and /predict-iap: a job, or its result when the client waits for it."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from reacquire.access import Principal
from reacquire.jobs.intake import Intake, Submission
from reacquire.jobs.record import BundleRef
from reacquire.jobs.spec import OperationSpec, SamplerName
from reacquire.jobs.states import TERMINAL
from service.context import Context, ContextDep
from service.doorkeeper import Caller
from service.openapi import JSON_BODY, OPERATION_RESPONSES, OPTIONS_EXAMPLE, TARGET_EXAMPLE
from service.request import (
    IdempotencyKey,
    PinnedBundle,
    PreferredWait,
    Target,
    form_of,
    merge_options,
    parse_json,
    read_files,
)
from service.results import handed_out
from service.schemas import job_answer
from service.submit import submit

router = APIRouter(tags=["operations"])

Dicom = Annotated[
    list[UploadFile], File(description="DICOM files of one MR series (one slice will do), or one zip of them")
]
OptionsText = Annotated[str | None, Form(description="options as JSON", examples=[OPTIONS_EXAMPLE])]

LARGE_UPLOAD = 2**24  # bytes; larger ones are handled one at a time
_FIELDS = ("dicom", "options")


@router.post(
    "/counterfactual",
    status_code=202,
    responses=OPERATION_RESPONSES,
    openapi_extra=JSON_BODY,
    dependencies=[form_of("dicom", "target", "options", "sampler", "steps", "guidance_scale", "seed")],
    summary="The image as it would look under other acquisition parameters",
)
async def counterfactual(
    request: Request,
    context: ContextDep,
    caller: Caller,
    key: IdempotencyKey,
    wait: PreferredWait,
    bundle: PinnedBundle,
    dicom: Dicom,
    target: Annotated[str, Form(description="parameters to change, by DICOM keyword", examples=[TARGET_EXAMPLE])],
    options: OptionsText = None,
    sampler: Annotated[SamplerName | None, Form()] = None,
    steps: Annotated[int | None, Form(ge=1, le=1000)] = None,
    guidance_scale: Annotated[float | None, Form(ge=0, le=20, allow_inf_nan=False)] = None,
    seed: Annotated[int | None, Form(ge=0, lt=2**63)] = None,
) -> Response:
    """Unset parameters keep the slice's own values; the answer says which value came from where."""
    chosen = merge_options(options, sampler=sampler, steps=steps, guidance_scale=guidance_scale, seed=seed)
    spec = OperationSpec(operation="counterfactual", target=parse_json(Target, target, "target"), options=chosen)
    return await accept(request, context, spec, dicom, caller=caller, key=key, wait_s=wait or 0.0, bundle=bundle)


@router.post(
    "/segment",
    status_code=202,
    responses=OPERATION_RESPONSES,
    openapi_extra=JSON_BODY,
    dependencies=[form_of(*_FIELDS)],
    summary="Fat and fibroglandular tissue as a DICOM SEG",
)
async def segment(
    request: Request,
    context: ContextDep,
    caller: Caller,
    key: IdempotencyKey,
    wait: PreferredWait,
    bundle: PinnedBundle,
    dicom: Dicom,
    options: OptionsText = None,
) -> Response:
    """Waits ten seconds for the result unless told otherwise."""
    spec = OperationSpec(operation="segment", options=merge_options(options))
    wait_s = context.settings.default_wait_s if wait is None else wait
    return await accept(request, context, spec, dicom, caller=caller, key=key, wait_s=wait_s, bundle=bundle)


@router.post(
    "/predict-iap",
    status_code=202,
    responses=OPERATION_RESPONSES,
    openapi_extra=JSON_BODY,
    dependencies=[form_of(*_FIELDS)],
    summary="The acquisition parameters that the pixels speak of",
)
async def predict_iap(
    request: Request,
    context: ContextDep,
    caller: Caller,
    key: IdempotencyKey,
    wait: PreferredWait,
    bundle: PinnedBundle,
    dicom: Dicom,
    options: OptionsText = None,
) -> Response:
    """Waits ten seconds for the result unless told otherwise."""
    spec = OperationSpec(operation="predict-iap", options=merge_options(options))
    wait_s = context.settings.default_wait_s if wait is None else wait
    return await accept(request, context, spec, dicom, caller=caller, key=key, wait_s=wait_s, bundle=bundle)


async def accept(
    request: Request,
    context: Context,
    spec: OperationSpec,
    parts: Sequence[UploadFile],
    *,
    caller: Principal,
    key: str | None,
    wait_s: float,
    bundle: BundleRef | None = None,
) -> Response:
    """Enter a job on uploaded files and answer."""
    size = sum(part.size or 0 for part in parts)
    async with context.large_uploads if size > LARGE_UPLOAD else nullcontext():
        files = await read_files(list(parts))  # from here to the blob store an upload is in memory
        enter = partial(Intake.files, spec=spec, files=files, key=key)
        submission = await run_in_threadpool(submit, context, caller, spec.operation, bundle, enter)
        files.clear()
        for part in parts:
            await part.close()  # of a large upload a copy lies on disk
        request.state.let_go()
    return await answer(request, context, caller, submission, wait_s=wait_s)


async def answer(
    request: Request, context: Context, caller: Principal, submission: Submission, *, wait_s: float
) -> Response:
    """The job's result (200) when it ends within ``wait_s``, else the job itself (202)."""
    record = await context.watcher.until_done(submission.job_id, wait_s) if wait_s > 0 else submission.record
    location = {"Location": f"/v1/jobs/{record.id}"}
    if record.bundle is not None:
        location["X-Model-Version"] = record.bundle.label
    if wait_s > 0:
        location["Preference-Applied"] = f"wait={wait_s:g}"
    if wait_s > 0 and record.state in TERMINAL:
        accept = request.headers.get("accept", "*/*")
        response = await run_in_threadpool(handed_out, context, caller, record, accept)
        response.headers.update(location | {"Content-Location": f"{location['Location']}/result"})
        return response
    return JSONResponse(job_answer(record).model_dump(mode="json"), 202, headers=location)
