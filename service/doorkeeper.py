"""Who sends a request: the access mode of the settings as a dependency of the routes, and what is put on record.

Liveness, readiness, metrics and the documentation stay open; they tell nothing about anybody.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from reacquire.access import ANYONE, Principal
from reacquire.access.budget import Budget
from reacquire.access.keys import KeyRing
from reacquire.access.oidc import Provider, TokenVerifier
from reacquire.errors import AccessError, OverloadedError
from reacquire.trail import Event, Trail
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from service.context import Context

HOOKS = "hooks"  # who submits on behalf of a PACS; nobody's id, so only an administrator sees such jobs


@dataclass(frozen=True)
class Doorkeeper:
    """Turns a presented key or token into a caller; ``check`` None lets everybody in as ``ANYONE``."""

    check: Callable[[str], Principal] | None
    budget: Budget | None = None

    @classmethod
    def of(cls, settings: ServiceSettings) -> Self:
        """The doorkeeper of the access mode.

        Raises
        ------
        OSError, ValueError
            For a key file that can't be used.
        """
        if settings.access == "off":
            return cls(None)
        budget = Budget(settings.redis_url.get_secret_value(), settings.key_prefix)
        if settings.access == "keys" and settings.keys_file is not None:
            return cls(KeyRing(settings.keys_file).identify, budget)
        provider = Provider(
            settings.oidc_issuer or "",  # the settings have checked that both are there
            settings.oidc_audience or "",
            jwks_url=settings.oidc_jwks_url,
            leeway_s=settings.oidc_leeway_s,
            scope_claim=settings.oidc_scope_claim,
            per_minute=settings.oidc_per_minute,
            concurrent=settings.oidc_concurrent,
        )
        return cls(TokenVerifier(provider).identify, budget)

    def admit(self, authorization: str | None, api_key: str | None) -> Principal:
        """The caller behind the headers of a request.

        Raises
        ------
        AccessError
            ``unauthorized``.
        """
        if self.check is None:
            return ANYONE
        scheme, _, token = (authorization or "").partition(" ")
        presented = token.strip() if scheme.lower() == "bearer" else api_key
        if not presented:
            raise AccessError("send Authorization: Bearer TOKEN, or X-API-Key", code="unauthorized")
        return self.check(presented)

    def spend(self, caller: Principal) -> None:
        """Count a request that starts work; raises ``rate-limited``."""
        if self.budget is not None:
            self.budget.spend(caller)


async def identify(request: Request) -> Principal:
    """The caller of this request; one who must show something is looked up in a thread: an issuer may be asked."""
    context: Context = request.app.state.context
    if context.doorkeeper.check is None:
        return ANYONE
    known: Principal | None = getattr(request.state, "caller", None)  # met at the door, before the body was read
    return known if known is not None else await run_in_threadpool(admitted, context, request)


def admitted(context: "Context", request: Request) -> Principal:
    """The caller whose key or token a request shows; a refusal is put on record.

    Raises
    ------
    AccessError
        ``unauthorized``.
    OverloadedError
        ``not-ready`` when it can't be put on record, or the issuer can't be asked.
    """
    with refusals_on_record(context.trail, "unknown"):
        return context.doorkeeper.admit(request.headers.get("authorization"), request.headers.get("x-api-key"))


Caller = Annotated[Principal, Depends(identify)]


@contextmanager
def refusals_on_record(trail: Trail | None, who: str, **fields: Any) -> Iterator[None]:
    """Put an AccessError of the block on record before it goes on its way; raises as ``witness``."""
    try:
        yield
    except AccessError as error:
        witness(trail, "refuse", who, outcome=error.code, **fields)
        raise


def witness(trail: Trail | None, action: Any, who: str, **fields: Any) -> None:
    """Put an event on record where a trail is kept.

    Raises
    ------
    OverloadedError
        ``not-ready`` when it can't be written: what must be on record does not happen off it.
    """
    if trail is None:
        return
    try:
        trail.record(Event(action=action, who=who, **fields))
    except OSError as error:
        raise OverloadedError("the audit trail cannot be written", code="not-ready") from error
