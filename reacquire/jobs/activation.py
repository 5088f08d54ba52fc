"""Which bundle jobs without a pin get: one record in Redis, switched by one transaction (docs/decisions/0008).

Every job takes it over in the transaction that enters the job, so that a switch falls between two jobs and never into
one. ``switch`` does a whole activation; here is only what is atomic about it.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reacquire.errors import BundleError
from reacquire.jobs import scripts
from reacquire.jobs.record import BundleRef
from reacquire.jobs.store import JobStore

_SWITCH = (
    scripts.PRELUDE
    + """
local K = P .. ':bundles'
local function switch(ref, explicit)
  local active = redis.call('HGET', K, 'active')
  if active and active ~= ref then redis.call('HSET', K, 'previous', active) end
  redis.call('HSET', K, 'active', ref, 'explicit', explicit, 'since_ms', NOW)
  redis.call('HINCRBY', K, 'revision', 1)
end
local function forget() redis.call('HDEL', K, 'candidate', 'token', 'until_ms', 'base') end
local function pending() return tonumber(redis.call('HGET', K, 'until_ms') or '0') > NOW end
"""
)
# ARGV: prefix, bundle   -> 1 when it became the active one: there was none, or nobody had chosen the one there was
ESTABLISH = """
local have = redis.call('HMGET', K, 'active', 'explicit')
if have[1] and (have[1] == ARGV[2] or have[2] == '1') then return 0 end
switch(ARGV[2], '0')
return 1
"""
# ARGV: prefix, bundle, token, how long it may take (ms)   -> '' or the candidate of another activation
PROPOSE = """
if pending() then return redis.call('HGET', K, 'candidate') end
redis.call('HSET', K, 'candidate', ARGV[2], 'token', ARGV[3], 'until_ms', NOW + ARGV[4],
           'base', redis.call('HGET', K, 'revision') or '0')
return ''
"""
# ARGV: prefix, token   -> 'active', or why not: 'late', 'changed'
COMMIT = """
local have = redis.call('HMGET', K, 'token', 'candidate', 'base')
if have[1] ~= ARGV[2] or not pending() then return 'late' end
local now = redis.call('HGET', K, 'revision') or '0'
forget()
if have[3] ~= now then return 'changed' end
switch(have[2], '1')
return 'active'
"""
# ARGV: prefix, token
WITHDRAW = """
if redis.call('HGET', K, 'token') == ARGV[2] then forget() end
return 0
"""


@dataclass(frozen=True)
class Activation:
    """What is active, what was before it, and what is about to be. ``explicit``: an operator chose the active one."""

    active: BundleRef | None = None
    previous: BundleRef | None = None
    candidate: BundleRef | None = None
    token: str = ""
    explicit: bool = False
    revision: int = 0

    @classmethod
    def from_hash(cls, fields: Mapping[str, str], now_ms: int) -> "Activation":
        """The state behind the fields of the Redis hash; a candidate past its time is none."""
        pending = int(fields.get("until_ms") or 0) > now_ms
        return cls(
            active=_ref(fields, "active"),
            previous=_ref(fields, "previous"),
            candidate=_ref(fields, "candidate") if pending else None,
            token=fields.get("token", "") if pending else "",
            explicit=fields.get("explicit") == "1",
            revision=int(fields.get("revision") or 0),
        )


def _ref(fields: Mapping[str, str], name: str) -> BundleRef | None:
    return BundleRef.from_json(fields[name]) if fields.get(name) else None


class Activations:
    """The activation record of a job store; safe to share between threads and processes."""

    def __init__(self, store: JobStore) -> None:
        self._client = store.client
        self._prefix = store.config.key_prefix
        self._key = store.key("bundles")
        texts = {"establish": ESTABLISH, "propose": PROPOSE, "commit": COMMIT, "withdraw": WITHDRAW}
        self._scripts = {name: self._client.register_script(_SWITCH + text) for name, text in texts.items()}

    def read(self) -> Activation:
        """The present state."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._key)
            pipe.time()
            fields, (seconds, micros) = pipe.execute()
        return Activation.from_hash(fields, seconds * 1000 + micros // 1000)

    def establish(self, bundle: BundleRef) -> bool:
        """A worker's configured bundle becomes the active one unless an operator has chosen; whether it did."""
        return self._call("establish", bundle.to_json()) == 1

    def propose(self, bundle: BundleRef, *, patience_s: float) -> str:
        """Make ``bundle`` the candidate, which every worker warms up; the token to go on with.

        Raises
        ------
        BundleError
            ``activation-failed`` while another activation is under way.
        """
        token = secrets.token_hex(8)
        other = self._call("propose", bundle.to_json(), token, round(1000 * patience_s))
        if other:
            label = BundleRef.from_json(other).label
            raise BundleError(f"{label} is being activated just now; try again later", code="activation-failed")
        return token

    def commit(self, token: str) -> None:
        """The one switch: the candidate is active, what was active is the previous one.

        Raises
        ------
        BundleError
            ``activation-failed`` when it took too long or another bundle became active meanwhile.
        """
        outcome = self._call("commit", token)
        if outcome != "active":
            why = "it took too long" if outcome == "late" else "another bundle became active meanwhile"
            raise BundleError(f"not activated: {why}; the active bundle is unchanged", code="activation-failed")

    def withdraw(self, token: str) -> None:
        """Take a proposal back; nothing when it is no longer ours."""
        self._call("withdraw", token)

    def _call(self, name: str, *arguments: str | int) -> Any:
        return self._scripts[name](keys=[], args=[self._prefix, *arguments])
