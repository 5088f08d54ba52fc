"""Tokens of the hospital's identity provider: OpenID Connect access tokens, checked offline against its public keys.

PyJWT checks signature, issuer, audience and times; this module says which claims grant what. The provider's keys are
fetched when a token names one that is not known yet, so a rotation needs nothing from us.
"""

import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from reacquire.access.address import is_confidential
from reacquire.access.principal import SCOPES, Principal, opaque_id
from reacquire.errors import AccessError, OverloadedError

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384")  # asymmetric ones: nobody but the issuer signs
SCOPE_PREFIX = "reacquire:"  # providers share one scope namespace between applications
FETCH_TIMEOUT_S = 5.0
REFETCH_AFTER_S = 30.0  # tokens with invented key ids must not make us hammer the provider
KEEP_KEYS_S = 3600.0  # a key that the provider has withdrawn is trusted no longer than this


@dataclass(frozen=True)
class Provider:
    """An issuer and what we expect in its tokens.

    ``scope_claim`` holds either a text of scopes separated by blanks (RFC 8693 section 4.2) or a list; dots lead into
    objects, as in ``realm_access.roles``. A value counts with or without ``SCOPE_PREFIX``.
    """

    issuer: str
    audience: str
    jwks_url: str | None = None
    leeway_s: float = 30.0
    scope_claim: str = "scope"
    per_minute: int | None = None
    concurrent: int | None = None


class TokenVerifier:
    """Knows the callers of one provider; safe to share between threads."""

    def __init__(self, provider: Provider, client: httpx.Client | None = None) -> None:
        self._provider = provider
        self._client = client or httpx.Client(timeout=FETCH_TIMEOUT_S, follow_redirects=False)
        self._lock = threading.Lock()
        self._keys: dict[str, Any] = {}
        self._fetched_s = float("-inf")

    def identify(self, token: str) -> Principal:
        """The caller behind an access token.

        Raises
        ------
        AccessError
            ``unauthorized`` for a token that is malformed, expired, not yet valid, foreign or wrongly signed.
        OverloadedError
            ``not-ready`` when the provider's keys can't be had.
        """
        try:
            claims = self._verified(token)
        except jwt.PyJWTError as error:
            raise AccessError("this token is not valid here", code="unauthorized") from error
        granted = frozenset(_granted(claims, self._provider.scope_claim))
        caller = opaque_id(self._provider.issuer, str(claims["sub"]))
        return Principal(caller, granted, self._provider.per_minute, self._provider.concurrent)

    def _verified(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in ALGORITHMS:  # before any key is looked for
            raise jwt.InvalidAlgorithmError
        claims: dict[str, Any] = jwt.decode(
            token,
            self._key(header.get("kid")),
            algorithms=list(ALGORITHMS),
            issuer=self._provider.issuer,
            audience=self._provider.audience,
            leeway=self._provider.leeway_s,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        return claims

    def _key(self, key_id: str | None) -> Any:
        with self._lock:
            age = time.monotonic() - self._fetched_s
            if age > KEEP_KEYS_S or (key_id not in self._keys and age > REFETCH_AFTER_S):
                self._keys = self._fetch()
                self._fetched_s = time.monotonic()
            if key_id not in self._keys:
                raise jwt.InvalidKeyError
            return self._keys[key_id]

    def _fetch(self) -> dict[str, Any]:
        try:
            url = self._provider.jwks_url or self._discovered()
            answer = self._client.get(url).raise_for_status().json()
            keys = jwt.PyJWKSet.from_dict(answer).keys
        except (httpx.HTTPError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            raise OverloadedError("the identity provider's keys cannot be read", code="not-ready") from error
        return {str(key.key_id): key for key in keys if key.public_key_use in (None, "sig")}

    def _discovered(self) -> str:
        """OpenID Connect Discovery 1.0 section 4; the document must be the issuer's own."""
        url = self._provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
        document = self._client.get(url).raise_for_status().json()
        if document["issuer"] != self._provider.issuer:
            raise ValueError("the discovery document belongs to another issuer")
        url = str(document["jwks_uri"])
        if not is_confidential(url):
            raise ValueError("the discovery document names keys that anybody on the way could replace")
        return url


def _granted(claims: dict[str, Any], path: str) -> set[str]:
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    return {str(word).removeprefix(SCOPE_PREFIX) for word in words} & set(SCOPES)
