"""Who sends a request, as far as we care: an opaque id, scopes, and how much at a time."""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal, get_args

from reacquire.errors import AccessError

Scope = Literal["predict", "segment", "counterfactual", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
OPERATION_SCOPE: Final = {"predict-iap": "predict", "segment": "segment", "counterfactual": "counterfactual"}


@dataclass(frozen=True)
class Principal:
    """A caller.

    Attributes
    ----------
    id : str
        Stands in job records and audit events. Names nobody: the id of an API key, or a digest of issuer and subject.
    scopes : frozenset of str
        Subset of ``SCOPES``. ``admin`` sees and ends every job; it holds no operation by itself.
    per_minute : int or None
        Requests that start work, per minute; None for no limit.
    concurrent : int or None
        Jobs waiting or at work at one time; None for no limit.
    """

    id: str
    scopes: frozenset[str]
    per_minute: int | None = None
    concurrent: int | None = None

    def require(self, scope: str) -> None:
        """Refuse a caller without ``scope``.

        Raises
        ------
        AccessError
            ``forbidden``, naming the scope.
        """
        if scope not in self.scopes:
            raise AccessError(f"this needs the scope {scope}", code="forbidden")

    def may_see(self, owner: str) -> bool:
        """Whether a job of ``owner`` exists for this caller."""
        return "admin" in self.scopes or owner == self.id


ANYONE = Principal("anyone", frozenset(SCOPES))  # on loopback, where whoever can call owns the machine


def opaque_id(issuer: str, subject: str) -> str:
    """An id for a person that tells nobody who it is: 16 hexadecimal digits of a digest."""
    return "oidc-" + hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()[:16]
