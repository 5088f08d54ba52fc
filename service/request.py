"""Reading a request: form fields, JSON fields, Prefer and Idempotency-Key, each refused by its own rule."""

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from reacquire.bundles.store import LABEL, BundleStore
from reacquire.errors import ContainerError, InputError
from reacquire.jobs.record import BundleRef
from reacquire.jobs.spec import Options, TargetValue
from service.context import ContextDep

FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?\s*(?:$|[,;\s])", re.IGNORECASE)

Target = TypeAdapter(dict[str, TargetValue])
T = TypeVar("T")


def form_of(*fields: str) -> Any:
    """A dependency that refuses a body that is no form, has no body, or has fields other than ``fields``."""

    async def check(request: Request) -> None:
        if request.headers.get("content-length") == "0":
            raise ContainerError("the body is empty; send a DICOM file in the field dicom", code="empty-body")
        if request.headers.get("content-type", "").split(";")[0].strip().lower() not in FORMS:
            raise HTTPException(415)
        form = await request.form()
        if set(form) - set(fields):
            raise InputError(f"the form may have the fields {', '.join(fields)} and no others")
        if any(not isinstance(part, UploadFile) for part in form.getlist("dicom")):
            raise InputError("the field dicom must be a file (in curl: -F dicom=@slice.dcm)", where="/dicom")

    return Depends(check)


def parse_json(adapter: TypeAdapter[T], text: str, field: str) -> T:
    """A JSON form field.

    Raises
    ------
    RequestValidationError
        Pointing into the field, without its content.
    """
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        raise RequestValidationError([{**e, "loc": ("body", field, *e["loc"])} for e in found]) from None


def merge_options(text: str | None, **given: Any) -> Options:
    """The options field and its convenience twins.

    Raises
    ------
    InputError
        When a value is given in both places.
    """
    options = parse_json(TypeAdapter(Options), text, "options") if text else Options()
    chosen = {name: value for name, value in given.items() if value is not None}
    doubled = sorted(set(chosen) & options.model_fields_set)
    if doubled:
        raise InputError(f"{', '.join(doubled)}: given both in options and as a field of its own", where="/options")
    return options.model_copy(update=chosen)


async def _idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="Repeating a request with the same key answers the first request's job.",
        ),
    ] = None,
) -> str | None:
    return idempotency_key


async def _preferred_wait(
    context: ContextDep,
    prefer: Annotated[
        str | None, Header(description="`wait=N` answers the result itself when it is ready within N seconds.")
    ] = None,
) -> float | None:
    """Seconds to wait for a result (RFC 7240 section 4.3), None when the client did not say."""
    if prefer is None:
        return None
    found = WAIT.search(prefer)
    if found:
        return min(float(found.group(1)), context.settings.max_wait_s)
    return 0.0 if "respond-async" in prefer.lower() else None


async def _pinned_bundle(
    context: ContextDep,
    x_model_version: Annotated[
        str | None,
        Header(
            max_length=100,
            pattern=f"^{LABEL.pattern}$",  # pydantic searches, it does not match
            description="NAME@VERSION of `/v1/models`: run with this bundle and no other; default: the active one.",
        ),
    ] = None,
) -> BundleRef | None:
    """The bundle that a request pins; looked for in a thread, as a new bundle is hashed.

    Raises
    ------
    BundleError
        ``model-not-found``, with what there is.
    """
    if x_model_version is None:
        return None
    return await run_in_threadpool(_bundle_named, x_model_version, context.settings.bundles_root)


def _bundle_named(label: str, root: Path) -> BundleRef:
    return BundleStore(root).inventory().find(label).ref


PinnedBundle = Annotated[BundleRef | None, Depends(_pinned_bundle)]
IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]
PreferredWait = Annotated[float | None, Depends(_preferred_wait)]


async def read_files(parts: list[UploadFile]) -> list[bytes]:
    """The bytes of the uploaded parts; their file names are not looked at."""
    return [await part.read() for part in parts]
