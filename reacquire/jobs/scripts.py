"""The store's transactions as Lua: each runs alone inside Redis, on Redis' own clock.

Keys are derived from the prefix in ARGV[1], so the scripts need one Redis (or Valkey) server, not a cluster; Celery's
Redis transport has the same limit. The state table is generated from ``states.TRANSITIONS``.
"""

from reacquire.jobs.states import FINISHED, TRANSITIONS

INDEX = {"queued": "queued", "running": "running"} | {state: "finished" for state in FINISHED}


def _lua_table(pairs: dict[str, str]) -> str:
    return "{" + ",".join(f'["{key}"]="{value}"' for key, value in sorted(pairs.items())) + "}"


PRELUDE = (
    f"local NEXT = {_lua_table({f'{event}:{state}': target for (event, state), target in TRANSITIONS.items()})}\n"
    f"local INDEX = {_lua_table(INDEX)}\n"
    """
local P = ARGV[1]
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function key(id) return P .. ':job:' .. id end
local function changed(id)
  redis.call('HINCRBY', key(id), 'version', 1)
end
local function move(id, event, score)
  local state = redis.call('HGET', key(id), 'state')
  local target = state and NEXT[event .. ':' .. state]
  if not target then return nil end
  redis.call('HSET', key(id), 'state', target)
  if INDEX[state] then redis.call('ZREM', P .. ':' .. INDEX[state], id) end
  if INDEX[target] then redis.call('ZADD', P .. ':' .. INDEX[target], score, id) end
  if INDEX[target] == 'finished' then
    redis.call('HSET', key(id), 'finished_ms', NOW, 'expires_ms', score)
    redis.call('HINCRBY', P .. ':totals', redis.call('HGET', key(id), 'operation') .. ' ' .. target, 1)
  end
  changed(id)
  if target ~= 'queued' and target ~= 'running' then redis.call('PUBLISH', P .. ':ends', id) end
  return target
end
local function fail(id, failure, code, ttl)
  redis.call('HSET', key(id), 'failure', failure)
  redis.call('HINCRBY', P .. ':failures', code, 1)
  return move(id, 'fail', NOW + ttl)
end
local function holds(id, token)
  local have = redis.call('HMGET', key(id), 'state', 'token')
  return have[1] == 'running' and have[2] == token
end
"""
)

# ARGV: prefix, id, max queue, idempotency key ('' = none), fingerprint, its ttl, then field, value, ...
CREATE = """
local id, idem = ARGV[2], ARGV[4]
if idem ~= '' then
  local known = redis.call('HMGET', P .. ':idem:' .. idem, 'job', 'fingerprint')
  if known[1] and redis.call('EXISTS', key(known[1])) == 1 then
    return {known[2] == ARGV[5] and 'replayed' or 'mismatch', known[1]}
  end
end
if redis.call('ZCARD', P .. ':queued') >= tonumber(ARGV[3]) then return {'full', ''} end
redis.call('HSET', key(id), 'state', 'queued', 'created_ms', NOW, 'published_ms', NOW, 'idem', idem,
           unpack(ARGV, 7))
redis.call('ZADD', P .. ':queued', NOW, id)
if idem ~= '' then
  redis.call('HSET', P .. ':idem:' .. idem, 'job', id, 'fingerprint', ARGV[5])
  redis.call('PEXPIRE', P .. ':idem:' .. idem, ARGV[6])
end
changed(id)
return {'created', id}
"""

# ARGV: prefix, worker, lease, id, ...   -> a token per id, 0 where there is nothing to claim
CLAIM = """
local out = {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local token = 0
  if move(id, 'claim', NOW + ARGV[3]) then
    token = redis.call('HINCRBY', key(id), 'token', 1)
    redis.call('HINCRBY', key(id), 'attempts', 1)
    redis.call('HSET', key(id), 'worker', ARGV[2], 'step', 0)
    if redis.call('HEXISTS', key(id), 'started_ms') == 0 then redis.call('HSET', key(id), 'started_ms', NOW) end
  end
  out[#out + 1] = token
end
return out
"""

# ARGV: prefix, lease, then id, token, step, steps (step -1: only the lease)   -> 'held', 'cancel' or 'lost' per item
TOUCH = """
local out = {}
for i = 3, #ARGV, 4 do
  local id, step, steps = ARGV[i], tonumber(ARGV[i + 2]), ARGV[i + 3]
  if not holds(id, ARGV[i + 1]) then
    out[#out + 1] = 'lost'
  else
    redis.call('ZADD', P .. ':running', NOW + ARGV[2], id)
    if step >= 0 then
      redis.call('HSET', key(id), 'step', step, 'steps', steps)
      changed(id)
    end
    out[#out + 1] = redis.call('HGET', key(id), 'cancel') == '1' and 'cancel' or 'held'
  end
end
return out
"""

# ARGV: prefix, batch, size, then id, token, ...
BATCH = """
for i = 4, #ARGV, 2 do
  if holds(ARGV[i], ARGV[i + 1]) then
    redis.call('HSET', key(ARGV[i]), 'batch_id', ARGV[2], 'batch_size', ARGV[3])
  end
end
return 0
"""

# ARGV: prefix, id, token, event, ttl, artifacts, failure, code   -> the new state, or '' for a stale token
FINISH = """
local id, event, ttl = ARGV[2], ARGV[4], ARGV[5]
if not holds(id, ARGV[3]) then return '' end
if redis.call('HGET', key(id), 'cancel') == '1' then event = 'cancel' end
if event == 'fail' then return fail(id, ARGV[7], ARGV[8], ttl) end
if event == 'succeed' then redis.call('HSET', key(id), 'artifacts', ARGV[6]) end
if event == 'requeue' then
  redis.call('HINCRBY', key(id), 'attempts', -1)
  redis.call('HSET', key(id), 'published_ms', NOW)
  return move(id, event, redis.call('HGET', key(id), 'created_ms'))
end
return move(id, event, NOW + ttl)
"""

# ARGV: prefix, id, ttl   -> the state before, '' for no such job
CANCEL = """
local id = ARGV[2]
local state = redis.call('HGET', key(id), 'state')
if not state then return '' end
if state == 'queued' then move(id, 'cancel', NOW + ARGV[3]) end
if state == 'running' and redis.call('HGET', key(id), 'cancel') ~= '1' then
  redis.call('HSET', key(id), 'cancel', 1)
  changed(id)
end
return state
"""

# ARGV: prefix, max attempts, ttl, failure, code   -> id, state, id, state, ...
REAP = """
local out = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':running', '-inf', NOW, 'LIMIT', 0, 200)) do
  local have = redis.call('HMGET', key(id), 'cancel', 'attempts')
  local state
  if have[1] == '1' then
    state = move(id, 'cancel', NOW + ARGV[3])
  elseif tonumber(have[2] or '0') >= tonumber(ARGV[2]) then
    state = fail(id, ARGV[4], ARGV[5], ARGV[3])
  else
    state = move(id, 'requeue', redis.call('HGET', key(id), 'created_ms') or NOW)
    if state then redis.call('HSET', key(id), 'published_ms', NOW) end
  end
  if state then out[#out + 1] = id; out[#out + 1] = state else redis.call('ZREM', P .. ':running', id) end
end
return out
"""

# ARGV: prefix, tombstone ttl   -> ids whose artifacts may go
EXPIRE = """
local out = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':finished', '-inf', NOW, 'LIMIT', 0, 200)) do
  if move(id, 'expire', 0) then
    redis.call('HDEL', key(id), 'artifacts', 'inputs', 'failure')
    redis.call('PEXPIRE', key(id), ARGV[2])
  else
    redis.call('ZREM', P .. ':finished', id)
  end
  out[#out + 1] = id
end
return out
"""

# ARGV: prefix, published before (age in ms)   -> queued ids sent that long ago, marked as sent again now
STALE = """
local out = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':queued', '-inf', NOW - ARGV[2], 'LIMIT', 0, 200)) do
  if tonumber(redis.call('HGET', key(id), 'published_ms') or '0') <= NOW - ARGV[2] then
    redis.call('HSET', key(id), 'published_ms', NOW)
    out[#out + 1] = id
  end
end
return out
"""

# ARGV: prefix, id   -> 1 when there was such a job
DELETE = """
local id = ARGV[2]
local idem = redis.call('HGET', key(id), 'idem')
if idem and idem ~= '' and redis.call('HGET', P .. ':idem:' .. idem, 'job') == id then
  redis.call('DEL', P .. ':idem:' .. idem)
end
for _, index in ipairs({'queued', 'running', 'finished'}) do redis.call('ZREM', P .. ':' .. index, id) end
local gone = redis.call('DEL', key(id))
redis.call('PUBLISH', P .. ':ends', id)
return gone
"""

EVERY = ("CREATE", "CLAIM", "TOUCH", "BATCH", "FINISH", "CANCEL", "REAP", "EXPIRE", "STALE", "DELETE")
