"""Who is let in: keys, tokens of a local issuer, limits. Nothing here touches HTTP."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from redis_fixture import redis_url

from reacquire.access import keys
from reacquire.access.budget import Budget
from reacquire.access.keys import KeyRing, add_key, new_key, read_keys
from reacquire.access.oidc import Provider, TokenVerifier
from reacquire.access.principal import ANYONE, SCOPES, Principal
from reacquire.errors import AccessError, OverloadedError

__all__ = ["redis_url"]
ISSUER, AUDIENCE = "https://idp.example/realm", "reacquire"


def refused(code, function, *arguments):
    with pytest.raises(AccessError) as caught:
        function(*arguments)
    assert caught.value.code == code
    return caught.value.detail


# -- keys ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def ring(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "LOOK_AGAIN_S", 0.0)
    path = tmp_path / "keys.json"
    key, record = new_key(["predict", "segment"], per_minute=7, concurrent=2)
    add_key(path, record)
    return path, key, KeyRing(path)


def test_a_key_opens_what_its_record_says(ring):
    _, key, known = ring
    principal = known.identify(key)
    assert principal.scopes == {"predict", "segment"}
    assert (principal.per_minute, principal.concurrent) == (7, 2)
    principal.require("segment")
    refused("forbidden", principal.require, "counterfactual")


def test_the_file_holds_no_secret_and_is_private(ring):
    path, key, _ = ring
    assert key.split("_", 2)[2] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


DAMAGE = {
    "cut": lambda key: key[:-1],
    "longer": lambda key: key + "x",
    "another prefix": lambda key: key.replace("rq_", "rk_"),
    "id alone": lambda key: key.split("_")[1],
    "empty": lambda _: "",
    "separators": lambda _: "rq__",
    "unknown id": lambda key: "rq_zzzz_" + key.split("_", 2)[2],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_wrong_key_is_refused_in_words_that_tell_nothing(ring, damage):
    _, key, known = ring
    assert refused("unauthorized", known.identify, damage(key)) == refused("unauthorized", known.identify, "rq_aaaa_b")


def test_an_expired_key_is_refused(tmp_path):
    path = tmp_path / "keys.json"
    key, record = new_key(["predict"], expires=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    add_key(path, record)
    refused("unauthorized", KeyRing(path).identify, key)


def test_a_revoked_key_stops_working_and_a_new_one_starts(ring):
    path, key, known = ring
    other, record = new_key(["admin"])
    path.write_text("[]")
    add_key(path, record)
    refused("unauthorized", known.identify, key)
    assert known.identify(other).scopes == {"admin"}


def test_a_broken_file_stops_a_start_and_keeps_a_running_service(ring):
    path, key, known = ring
    path.write_text('[{"id": "x"')
    assert known.identify(key).scopes == {"predict", "segment"}
    with pytest.raises(ValueError, match="JSON"):
        KeyRing(path)


def test_two_keys_of_one_id_are_refused(ring):
    path, _, _ = ring
    path.write_text(json.dumps([json.loads(r.model_dump_json()) for r in read_keys(path)] * 2))
    with pytest.raises(ValueError, match="one id"):
        read_keys(path)


# -- tokens -------------------------------------------------------------------------------------------------------

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def jwk(key, kid, algorithm):
    public = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": kid, "use": "sig", "alg": algorithm}


class Idp:
    """A local issuer: discovery document and keys, over httpx' transport."""

    def __init__(self):
        self.keys = [jwk(RSA_KEY, "one", "RS256"), jwk(EC_KEY, "two", "ES256")]
        self.issuer, self.up, self.asked = ISSUER, True, 0
        self.jwks_uri = f"{ISSUER}/keys"

    def __call__(self, request):
        self.asked += 1
        if not self.up:
            return httpx.Response(503)
        if request.url.path.endswith("openid-configuration"):
            return httpx.Response(200, json={"issuer": self.issuer, "jwks_uri": self.jwks_uri})
        return httpx.Response(200, json={"keys": self.keys})


@pytest.fixture
def idp():
    return Idp()


def verifier(idp, **options):
    client = httpx.Client(transport=httpx.MockTransport(idp))
    return TokenVerifier(Provider(ISSUER, AUDIENCE, **options), client)


def token(key=RSA_KEY, kid="one", algorithm="RS256", **claims):
    now = int(time.time())
    usual = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "exp": now + 60,
        "nbf": now,
        "scope": "openid reacquire:predict",
    }
    body = {k: v for k, v in {**usual, **claims}.items() if v is not None}
    return jwt.encode(body, key, algorithm, headers={"kid": kid})


def test_a_token_of_the_issuer_opens_what_its_scopes_say(idp):
    principal = verifier(idp).identify(token())
    assert principal.scopes == {"predict"}
    assert "ann" not in principal.id
    assert principal.id == verifier(idp).identify(token(key=EC_KEY, kid="two", algorithm="ES256")).id


@pytest.mark.parametrize(
    "bad",
    [
        {"exp": int(time.time()) - 40},
        {"nbf": int(time.time()) + 86_400},  # far ahead of the run, which collects first
        {"aud": "another"},
        {"iss": "https://evil.example"},
        {"exp": None},
        {"sub": None},
        {"aud": None},
        {"kid": "three"},
        {"key": rsa.generate_private_key(public_exponent=65537, key_size=2048)},
    ],
    ids=lambda bad: f"{next(iter(bad))}-{str(next(iter(bad.values())))[:7]}",
)
def test_a_token_that_is_not_for_us_is_refused(idp, bad):
    refused("unauthorized", verifier(idp).identify, token(**bad))


def test_clocks_may_differ_by_the_leeway(idp):
    assert verifier(idp).identify(token(exp=int(time.time()) - 20))
    refused("unauthorized", verifier(idp, leeway_s=5).identify, token(exp=int(time.time()) - 20))


def test_neither_no_signature_nor_a_shared_secret_is_accepted(idp):
    modulus = idp.keys[0]["n"]  # public: an HMAC under it proves nothing
    for forged in (
        jwt.encode({"sub": "ann"}, None, "none"),
        token(key=modulus, algorithm="HS256"),
        "a.b.c",
        "",
    ):
        refused("unauthorized", verifier(idp).identify, forged)
    assert idp.asked == 0, "a forged algorithm is refused before any key is fetched"


def test_keys_are_fetched_once_and_again_after_a_rotation(idp, monkeypatch):
    known = verifier(idp)
    for _ in range(5):
        known.identify(token())
    assert idp.asked == 2  # discovery and keys
    fresh = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    idp.keys = [jwk(fresh, "next", "RS256")]
    refused("unauthorized", known.identify, token(key=fresh, kid="next"))  # too soon to ask again
    monkeypatch.setattr("reacquire.access.oidc.REFETCH_AFTER_S", 0.0)
    assert known.identify(token(key=fresh, kid="next"))
    refused("unauthorized", known.identify, token())  # withdrawn


def test_a_provider_that_is_away_is_no_refusal(idp):
    idp.up = False
    with pytest.raises(OverloadedError) as caught:
        verifier(idp).identify(token())
    assert caught.value.code == "not-ready"


def away(verifier, bearer):
    with pytest.raises(OverloadedError) as caught:
        verifier.identify(bearer)
    assert caught.value.code == "not-ready"


def test_a_failed_try_is_remembered(idp, monkeypatch):
    idp.up = False
    known = verifier(idp)
    for _ in range(5):
        away(known, token())
    assert idp.asked == 1
    idp.up = True
    away(known, token())
    monkeypatch.setattr("reacquire.access.oidc.REFETCH_AFTER_S", 0.0)
    assert known.identify(token())


def test_known_keys_are_kept_while_the_provider_is_away(idp, monkeypatch):
    known = verifier(idp)
    known.identify(token())
    monkeypatch.setattr("reacquire.access.oidc.REFETCH_AFTER_S", 0.0)
    idp.up = False
    away(known, token(key=EC_KEY, kid="three", algorithm="ES256"))
    assert known.identify(token())
    monkeypatch.setattr("reacquire.access.oidc.KEEP_KEYS_S", 0.0)
    away(known, token())  # it may have been withdrawn since


def eventually(condition):
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_keys_that_age_are_fetched_again_aside(idp, monkeypatch):
    known = verifier(idp)
    known.identify(token())
    monkeypatch.setattr("reacquire.access.oidc.REFRESH_AFTER_S", 0.0)
    monkeypatch.setattr("reacquire.access.oidc.REFETCH_AFTER_S", 0.0)
    idp.keys = idp.keys[1:]
    known.identify(token())  # still with the key that was known
    eventually(lambda: not known._known.has("one"))
    refused("unauthorized", known.identify, token())


class HangingIdp(Idp):
    """Once ``hangs``, answers nothing before ``let_go``, and then 503."""

    def __init__(self):
        super().__init__()
        self.hangs, self.let_go = False, threading.Event()

    def __call__(self, request):
        if self.hangs:
            self.asked += 1
            self.let_go.wait(30)
            return httpx.Response(503)
        return super().__call__(request)


@pytest.mark.parametrize("ages", [False, True])
def test_a_provider_that_hangs_holds_up_nobody_whose_key_is_known(monkeypatch, ages):
    idp = HangingIdp()
    known = verifier(idp)
    known.identify(token())
    monkeypatch.setattr("reacquire.access.oidc.REFETCH_AFTER_S", 0.0)
    monkeypatch.setattr("reacquire.access.oidc.FOLLOW_S", 0.2)
    if ages:
        monkeypatch.setattr("reacquire.access.oidc.REFRESH_AFTER_S", 0.0)
    idp.hangs, asked = True, idp.asked
    try:
        with ThreadPoolExecutor(8) as pool:
            strangers = [pool.submit(known.identify, token(kid=f"new-{n}")) for n in range(4)]
            started = time.monotonic()
            for caller in [pool.submit(known.identify, token()) for _ in range(16)]:
                assert caller.result(timeout=10).scopes == {"predict"}
            assert time.monotonic() - started < 5, "nobody waited for the provider"
            eventually(lambda: sum(stranger.done() for stranger in strangers) >= 3)
            assert idp.asked - asked == 1, "and one request at a time asks it"
            monkeypatch.setattr("reacquire.access.oidc.REFETCH_AFTER_S", 30.0)
            idp.let_go.set()
            assert {type(stranger.exception(timeout=10)) for stranger in strangers} == {OverloadedError}
    finally:
        idp.let_go.set()


def test_a_discovery_document_of_another_issuer_is_not_trusted(idp):
    idp.issuer = "https://evil.example"
    with pytest.raises(OverloadedError):
        verifier(idp).identify(token())


def test_a_discovery_document_that_names_keys_in_the_clear_is_not_trusted(idp):
    idp.jwks_uri = "http://idp.example/keys"
    with pytest.raises(OverloadedError):
        verifier(idp).identify(token())


def test_scopes_may_be_roles_deep_in_the_token(idp):
    claims = {"scope": None, "realm_access": {"roles": ["reacquire:admin", "unknown", 3]}}
    assert verifier(idp, scope_claim="realm_access.roles").identify(token(**claims)).scopes == {"admin"}
    assert verifier(idp, scope_claim="realm_access.groups").identify(token(**claims)).scopes == frozenset()


# -- what a caller may ------------------------------------------------------------------------------------------------


def test_jobs_of_others_are_invisible_but_to_an_administrator():
    ann, root = Principal("ann", frozenset({"predict"})), Principal("root", frozenset({"admin"}))
    assert [ann.may_see("ann"), ann.may_see("bob"), root.may_see("ann"), ANYONE.may_see("bob")] == [
        True,
        False,
        True,
        True,
    ]
    assert frozenset(SCOPES) == ANYONE.scopes


def test_the_minute_of_one_caller_is_not_that_of_another(redis_url):
    one, other = Budget(redis_url, "t1"), Budget(redis_url, "t1")  # two API processes
    ann = Principal("ann", frozenset(), per_minute=3)
    for budget in (one, other, one):
        budget.spend(ann)
    refused("rate-limited", other.spend, ann)
    other.spend(Principal("bob", frozenset(), per_minute=3))
    other.spend(Principal("unlimited", frozenset()))
