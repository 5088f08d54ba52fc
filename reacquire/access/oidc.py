"""Tokens of the hospital's identity provider: OpenID Connect access tokens, checked offline against its public keys.

PyJWT checks signature, issuer, audience and times; this module says which claims grant what. The provider's keys are
fetched when a token names one that is not known yet, so a rotation needs nothing from us; and again aside while they
are good, so a provider that is away, or hangs, holds up nobody whose key is known.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import jwt

from reacquire.access.address import is_confidential
from reacquire.access.principal import SCOPES, Principal, opaque_id
from reacquire.errors import AccessError, OverloadedError

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384")  # asymmetric ones: nobody but the issuer signs
SCOPE_PREFIX = "reacquire:"  # providers share one scope namespace between applications
FETCH_TIMEOUT_S = 5.0
FOLLOW_S = 1.0  # how long a request waits for keys that another one is fetching: threads are few
REFETCH_AFTER_S = 30.0  # tokens with invented key ids, or a provider that is away, must not make us hammer it
REFRESH_AFTER_S = 1800.0  # known keys are fetched again so early that the provider may be away for a while
KEEP_KEYS_S = 3600.0  # a key that the provider has withdrawn is trusted no longer than this
AWAY = "the identity provider's keys cannot be read"


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


@dataclass(frozen=True)
class _Known:
    """Keys by id, when they were fetched and when that was last tried (``time.monotonic``)."""

    keys: Mapping[str, Any] = field(default_factory=dict)
    fetched_s: float = float("-inf")
    tried_s: float = float("-inf")

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.fetched_s

    @property
    def may_try(self) -> bool:
        return time.monotonic() - self.tried_s > REFETCH_AFTER_S

    @property
    def failed(self) -> bool:
        """Whether the provider could not be reached when it was last asked."""
        return self.tried_s > self.fetched_s

    def has(self, key_id: str | None) -> bool:
        return key_id in self.keys and self.age_s <= KEEP_KEYS_S


class TokenVerifier:
    """Knows the callers of one provider; safe to share between threads."""

    def __init__(self, provider: Provider, client: httpx.Client | None = None) -> None:
        self._provider = provider
        self._client = client or httpx.Client(timeout=FETCH_TIMEOUT_S, follow_redirects=False)
        self._known = _Known()  # replaced as a whole, so that nobody waits to read it
        self._fetching = threading.Lock()

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
        """A key that is known, at once, whatever the provider does; else a fetched one."""
        known = self._known
        if not known.has(key_id):
            return self._sought(key_id)
        if known.age_s > REFRESH_AFTER_S and known.may_try and self._fetching.acquire(blocking=False):
            threading.Thread(target=self._refresh, name="oidc-keys", daemon=True).start()
        return known.keys[str(key_id)]

    def _sought(self, key_id: str | None) -> Any:
        """A key that is not known: one request asks the provider, those that come meanwhile wait a moment for it."""
        if self._known.may_try:
            if not self._fetching.acquire(timeout=FOLLOW_S):
                raise OverloadedError(AWAY, code="not-ready")
            try:
                if self._known.may_try:  # nobody has while we waited
                    self._fetch()
            finally:
                self._fetching.release()
        known = self._known
        if known.has(key_id):
            return known.keys[str(key_id)]
        if known.failed:
            raise OverloadedError(AWAY, code="not-ready")
        raise jwt.InvalidKeyError

    def _refresh(self) -> None:
        """Ask the provider aside; whoever has acquired ``_fetching`` hands it over."""
        try:
            with suppress(OverloadedError):  # remembered
                self._fetch()
        finally:
            self._fetching.release()

    def _fetch(self) -> None:
        """Take over the provider's keys, or remember that they could not be had."""
        try:
            url = self._provider.jwks_url or self._discovered()
            answer = self._client.get(url).raise_for_status().json()
            keys = jwt.PyJWKSet.from_dict(answer).keys
        except (httpx.HTTPError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            self._known = replace(self._known, tried_s=time.monotonic())
            raise OverloadedError(AWAY, code="not-ready") from error
        now = time.monotonic()
        self._known = _Known({str(key.key_id): key for key in keys if key.public_key_use in (None, "sig")}, now, now)

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
