"""Work on series that are still in a PACS: operations by reference (JSON), and the hooks that announce a series.

No handler here speaks to a PACS; all of them enter a job and answer.
"""

import secrets
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import Scope

from reacquire.access.address import is_loopback
from reacquire.access.placeholder import check_secret
from reacquire.errors import AccessError, InputError, PacsError
from reacquire.jobs.intake import Intake
from reacquire.jobs.spec import Operation, OperationSpec, Options, TargetValue
from reacquire.pacs.reference import SeriesReference
from service.context import Context, ContextDep
from service.doorkeeper import HOOKS, Caller, refusals_on_record
from service.openapi import HOOK_RESPONSES
from service.request import IdempotencyKey, PinnedBundle, PreferredWait
from service.routes.operations import answer
from service.schemas import job_answer
from service.settings import ServiceSettings
from service.submit import counted, intake, submit


class JsonRoute(APIRoute):
    """A route for ``application/json`` only, so that it can share its path with one for forms."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        kind = dict(scope.get("headers", ())).get(b"content-type", b"").split(b";")[0].strip().lower()
        return super().matches(scope) if kind == b"application/json" else (Match.NONE, {})


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SeriesName(Body):
    """A series of a configured site; never an address."""

    study: str = Field(description="StudyInstanceUID")
    series: str = Field(description="SeriesInstanceUID")
    site: str | None = Field(None, max_length=32, description="a name of the configuration; needed when it has several")

    def reference(self, context: Context, instances: tuple[str, ...] = ()) -> SeriesReference:
        return SeriesReference(chosen_site(context, self.site), self.study, self.series, instances)


class Source(SeriesName):
    instances: list[str] | None = Field(None, min_length=1, max_length=600, description="SOPInstanceUIDs; default: all")


class FromPacs(Body):
    """An operation on a series of a PACS."""

    dicomweb: Source
    target: dict[str, TargetValue] = Field(default_factory=dict, description="as in the form (counterfactual only)")
    options: Options = Options()
    return_: bool = Field(True, alias="return", description="store the results in the same PACS")


router = APIRouter(tags=["operations"], route_class=JsonRoute)
hooks = APIRouter(prefix="/hooks", tags=["hooks"])


def chosen_site(context: Context, name: str | None) -> str:
    """The site that a request means.

    Raises
    ------
    PacsError
        ``pacs-not-allowed`` when there is no such site.
    InputError
        When it names none and there are several.
    """
    sites = context.pacs.sites
    if not sites:
        raise PacsError("no PACS is configured here (REACQUIRE_PACS_CONFIG)", code="pacs-not-allowed")
    if name is None and len(sites) > 1:
        raise InputError(f"name the site: {', '.join(sites)}", where="/site")
    found = next(iter(sites)) if name is None else name
    if found not in sites:
        raise PacsError(f"no such site; there are: {', '.join(sites)}", code="pacs-not-allowed", where="/site")
    return found


def _register(operation: Operation) -> None:
    """The JSON twin of a form handler; the form's documentation shows both bodies."""

    @router.post(f"/{operation}", status_code=202, name=f"{operation} from a PACS", include_in_schema=False)
    async def from_pacs(
        request: Request,
        context: ContextDep,
        caller: Caller,
        key: IdempotencyKey,
        wait: PreferredWait,
        bundle: PinnedBundle,
        body: FromPacs,
    ) -> Response:
        if (operation == "counterfactual") != bool(body.target):
            raise InputError("a counterfactual needs a target, and nothing else has one", where="/target")
        spec = OperationSpec(operation=operation, target=body.target, options=body.options)
        reference = body.dicomweb.reference(context, tuple(body.dicomweb.instances or ()))
        deliver_to = reference.site if body.return_ else None
        enter = partial(Intake.reference, spec=spec, reference=reference, key=key, deliver_to=deliver_to)
        submission = await run_in_threadpool(submit, context, caller, operation, bundle, enter)
        return await answer(request, context, caller, submission, wait_s=wait or 0.0)


for _operation in ("counterfactual", "segment", "predict-iap"):
    _register(_operation)  # type: ignore[arg-type]


def _bearer(context: ContextDep, authorization: Annotated[str | None, Header(include_in_schema=False)] = None) -> None:
    """The token of the hooks, or a refusal that is put on record."""
    with refusals_on_record(context.trail, "unknown", operation="route"):
        check_bearer(context.settings, authorization)


def check_bearer(settings: ServiceSettings, authorization: str | None) -> None:
    """Who announces a series must bear the token; without one configured, only this machine can reach us.

    Raises
    ------
    AccessError
        ``unauthorized``.
    """
    expected = hook_token(settings)
    if expected is None:
        if not is_loopback(settings.host):
            raise AccessError("no token is configured for the hooks (REACQUIRE_HOOK_TOKEN), so nobody may use them")
        return
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), expected.encode()):
        raise AccessError("send the token of the hooks: Authorization: Bearer TOKEN")


def hook_token(settings: ServiceSettings) -> str | None:
    """The token of the settings; a file that is empty, unreadable or a placeholder is an outage, not an open door."""
    if settings.hook_token is not None:
        return settings.hook_token.get_secret_value()
    if settings.hook_token_file is None:
        return None
    try:
        found = settings.hook_token_file.read_text(encoding="utf-8").strip()
        check_secret("the token of the hooks", found)
    except (OSError, ValueError) as error:
        raise AccessError("the token of the hooks cannot be read by the service, or is a placeholder") from error
    return found


@hooks.post(
    "/orthanc",
    status_code=202,
    responses=HOOK_RESPONSES,
    dependencies=[Depends(_bearer)],
    summary="Orthanc says: this series is stable",
)
@hooks.post(
    "/series",
    status_code=202,
    responses=HOOK_RESPONSES,
    dependencies=[Depends(_bearer)],
    summary="A series is complete; the rules say what to do with it",
)
def series_arrived(context: ContextDep, body: SeriesName) -> Response:
    """Answers at once with a job of operation ``route``; `jobs` of that job lists what the rules started."""
    submission = intake(context).route(body.reference(context), window_s=context.settings.hook_window_s)
    counted(context, "route", submission, HOOKS)
    document = job_answer(submission.record).model_dump(mode="json")
    return JSONResponse(document, 202, headers={"Location": f"/v1/jobs/{submission.job_id}"})
