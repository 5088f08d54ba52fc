"""The store's transactions as Lua: each runs alone inside Redis, on Redis' own clock.

Keys are derived from the prefix in ARGV[1], so the scripts need one Redis (or Valkey) server, not a cluster; Celery's
Redis transport has the same limit. The state table is generated from ``states.TRANSITIONS``.
"""

from collections.abc import Mapping

from reacquire.jobs.states import COURIER_STAGES, FINISHED, STAGES, TRANSITIONS

INDEX = {"running": "running"} | {state: "finished" for state in FINISHED}
# Queued jobs by who does their stage. A worker is woken by messages and the order is that of creation; a courier looks
# for itself, and the order is that of the time from which on a job may be tried.
QUEUES: Mapping[str, str] = {stage: "queued:courier" if stage in COURIER_STAGES else "queued" for stage in STAGES}


def _lua_table(pairs: Mapping[str, str]) -> str:
    return "{" + ",".join(f'["{key}"]="{value}"' for key, value in sorted(pairs.items())) + "}"


PRELUDE = (
    f"local NEXT = {_lua_table({f'{event}:{state}': target for (event, state), target in TRANSITIONS.items()})}\n"
    f"local INDEX = {_lua_table(INDEX)}\n"
    f"local QUEUES = {_lua_table(QUEUES)}\n"
    """
local P = ARGV[1]
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function key(id) return P .. ':job:' .. id end
local function changed(id)
  redis.call('HINCRBY', key(id), 'version', 1)
end
local function queue(id) return QUEUES[redis.call('HGET', key(id), 'stage') or 'compute'] end
local function place(id, state) return state == 'queued' and queue(id) or INDEX[state] end
local function disown(id)
  local owner = redis.call('HGET', key(id), 'owner')
  if owner and owner ~= '' then redis.call('SREM', P .. ':active:' .. owner, id) end
end
local function move(id, event, score)
  local state = redis.call('HGET', key(id), 'state')
  local target = state and NEXT[event .. ':' .. state]
  if not target then return nil end
  redis.call('HSET', key(id), 'state', target)
  if place(id, state) then redis.call('ZREM', P .. ':' .. place(id, state), id) end
  if place(id, target) then redis.call('ZADD', P .. ':' .. place(id, target), score, id) end
  if INDEX[target] == 'finished' then
    redis.call('HSET', key(id), 'finished_ms', NOW, 'expires_ms', score)
    if redis.call('HGET', key(id), 'notify') == '1' then redis.call('ZADD', P .. ':notify', NOW, id) end
    disown(id)
    local of = redis.call('HMGET', key(id), 'operation', 'model')
    redis.call('HINCRBY', P .. ':totals', of[1] .. ' ' .. target .. ' ' .. (of[2] or 'none'), 1)
  end
  changed(id)
  if target ~= 'queued' and target ~= 'running' then redis.call('PUBLISH', P .. ':ends', id) end
  return target
end
local function fail(id, failure, code, ttl)
  redis.call('HSET', key(id), 'failure', failure)
  local of = redis.call('HMGET', key(id), 'operation', 'model')
  redis.call('HINCRBY', P .. ':failures', code .. ' ' .. (of[1] or 'unknown') .. ' ' .. (of[2] or 'none'), 1)
  return move(id, 'fail', NOW + ttl)
end
local function wait_again(id, event, delay)
  redis.call('HSET', key(id), 'published_ms', NOW)
  if queue(id) == QUEUES['compute'] then return move(id, event, redis.call('HGET', key(id), 'created_ms') or NOW) end
  return move(id, event, NOW + delay)
end
-- a job without a bundle of its own takes the active one, and keeps it from then on
local function bind(id)
  local have = redis.call('HMGET', key(id), 'operation', 'bundle')
  if have[1] == 'route' or (have[2] and have[2] ~= '') then return end
  local active = redis.call('HGET', P .. ':bundles', 'active')
  if active then redis.call('HSET', key(id), 'bundle', active) end
end
local function take(id, worker, lease)
  if not move(id, 'claim', NOW + lease) then return 0 end
  bind(id)
  redis.call('HINCRBY', key(id), 'attempts', 1)
  redis.call('HSET', key(id), 'worker', worker, 'step', 0, 'claimed_ms', NOW)
  redis.call('HSETNX', key(id), 'started_ms', NOW)
  return redis.call('HINCRBY', key(id), 'token', 1)
end
local function holds(id, token)
  local have = redis.call('HMGET', key(id), 'state', 'token')
  return have[1] == 'running' and have[2] == token
end
"""
)

# ARGV: prefix, id, max queue, idempotency key ('' = none), fingerprint, its ttl, the states ('a,b') of a job whose key
# is free again, owner ('' = nobody), most jobs of the owner at one time (0 = any), then field, value, ...
# -> what became of it, the job's id and its fields
CREATE = """
local id, idem = ARGV[2], ARGV[4]
if idem ~= '' then
  local known = redis.call('HMGET', P .. ':idem:' .. idem, 'job', 'fingerprint')
  local state = known[1] and redis.call('HGET', key(known[1]), 'state')
  if state and not string.find(',' .. ARGV[7] .. ',', ',' .. state .. ',', 1, true) then
    return {known[2] == ARGV[5] and 'replayed' or 'mismatch', known[1], redis.call('HGETALL', key(known[1]))}
  end
end
local waiting = redis.call('ZCARD', P .. ':' .. QUEUES['compute']) + redis.call('ZCARD', P .. ':' .. QUEUES['fetch'])
if waiting >= tonumber(ARGV[3]) then return {'full'} end
local owner, most = ARGV[8], tonumber(ARGV[9])
if most > 0 and redis.call('SCARD', P .. ':active:' .. owner) >= most then return {'busy'} end
redis.call('HSET', key(id), 'state', 'queued', 'created_ms', NOW, 'entered_ms', NOW, 'published_ms', NOW, 'idem', idem,
           'owner', owner, unpack(ARGV, 10))
bind(id)
if owner ~= '' then redis.call('SADD', P .. ':active:' .. owner, id) end
redis.call('ZADD', P .. ':' .. queue(id), NOW, id)
if idem ~= '' then
  redis.call('HSET', P .. ':idem:' .. idem, 'job', id, 'fingerprint', ARGV[5])
  redis.call('PEXPIRE', P .. ':idem:' .. idem, ARGV[6])
end
changed(id)
return {'created', id, redis.call('HGETALL', key(id))}
"""

# ARGV: prefix, worker, lease, id, ...   -> a token per id, 0 where a worker has nothing to claim
CLAIM = """
local out = {}
for i = 4, #ARGV do
  out[#out + 1] = queue(ARGV[i]) == QUEUES['compute'] and take(ARGV[i], ARGV[2], ARGV[3]) or 0
end
return out
"""

# ARGV: prefix, courier, lease, how many   -> id, token, id, token, ... of the courier's jobs whose time has come
TAKE = """
local out = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':' .. QUEUES['fetch'], '-inf', NOW, 'LIMIT', 0, ARGV[4])) do
  local token = take(id, ARGV[2], ARGV[3])
  if token > 0 then
    out[#out + 1] = id; out[#out + 1] = token
  else
    redis.call('ZREM', P .. ':' .. QUEUES['fetch'], id)
  end
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

# ARGV: prefix, batch, size, model, its digest, then id, token, ...
BATCH = """
for i = 6, #ARGV, 2 do
  if holds(ARGV[i], ARGV[i + 1]) then
    redis.call('HSET', key(ARGV[i]), 'batch_id', ARGV[2], 'batch_size', ARGV[3], 'model', ARGV[4],
               'model_sha256', ARGV[5])
  end
end
return 0
"""

# ARGV: prefix, worker   -> how many of its leases end now: it has none of these jobs in hand, and nobody died over them
ABANDON = """
local found = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':running', '(' .. NOW, '+inf')) do
  if redis.call('HGET', key(id), 'worker') == ARGV[2] then
    redis.call('ZADD', P .. ':running', NOW, id)
    redis.call('HINCRBY', key(id), 'attempts', -1)
    found = found + 1
  end
end
return found
"""

# ARGV: prefix, id, token, event, ttl, failure, code, delay, then field, value, ...   -> the new state, '' for a stale
# token. The fields are committed with the event, unless the job was cancelled meanwhile. Asked again with a token of
# lately, as after a lost answer, it changes nothing and says the same, whoever has had the job since.
FINISH = """
local id, event, ttl, delay = ARGV[2], ARGV[4], ARGV[5], tonumber(ARGV[8])
local function settled(state)
  redis.call('HSET', key(id), 'settled:' .. ARGV[3], state)
  redis.call('HDEL', key(id), 'settled:' .. ARGV[3] - 8)
  return state
end
if not holds(id, ARGV[3]) then return redis.call('HGET', key(id), 'settled:' .. ARGV[3]) or '' end
if redis.call('HGET', key(id), 'cancel') == '1' then event = 'cancel' end
if event ~= 'cancel' and #ARGV > 8 then redis.call('HSET', key(id), unpack(ARGV, 9)) end
if event == 'fail' then return settled(fail(id, ARGV[6], ARGV[7], ttl)) end
if event == 'advance' then
  redis.call('HDEL', key(id), 'attempts', 'step', 'steps', 'trouble_ms', 'postponed')
  redis.call('HSET', key(id), 'entered_ms', NOW)
  return settled(wait_again(id, event, 0))
end
if event == 'requeue' then
  redis.call('HINCRBY', key(id), 'attempts', -1)
  if delay > 0 then
    redis.call('HSETNX', key(id), 'trouble_ms', NOW)
    redis.call('HINCRBY', key(id), 'postponed', 1)
  end
  return settled(wait_again(id, event, delay))
end
return settled(move(id, event, NOW + ttl))
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

# ARGV: prefix, max attempts, ttl, failure, code   -> id, state, stage, id, state, stage, ...
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
    state = redis.call('EXISTS', key(id)) == 1 and wait_again(id, 'requeue', 0)
  end
  if state then
    out[#out + 1] = id; out[#out + 1] = state; out[#out + 1] = redis.call('HGET', key(id), 'stage') or 'compute'
  else
    redis.call('ZREM', P .. ':running', id)
  end
end
return out
"""

# ARGV: prefix, tombstone ttl   -> ids whose artifacts may go
EXPIRE = """
local out = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':finished', '-inf', NOW, 'LIMIT', 0, 200)) do
  if move(id, 'expire', 0) then
    redis.call('HDEL', key(id), 'artifacts', 'inputs', 'failure', 'delivery')
    redis.call('PEXPIRE', key(id), ARGV[2])
    redis.call('SADD', P .. ':drop', id)
  else
    redis.call('ZREM', P .. ':finished', id)
  end
  out[#out + 1] = id
end
return out
"""

# ARGV: prefix, published before (age in ms)   -> ids queued for workers and sent that long ago, now marked anew
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
for _, index in ipairs({QUEUES['compute'], QUEUES['fetch'], 'running', 'finished', 'notify'}) do
  redis.call('ZREM', P .. ':' .. index, id)
end
disown(id)
local gone = redis.call('DEL', key(id))
redis.call('SADD', P .. ':drop', id)
redis.call('PUBLISH', P .. ':ends', id)
return gone
"""

# ARGV: prefix, how long to keep it from others (ms), how many   -> ended jobs to tell of now
NOTICES = """
local out = redis.call('ZRANGEBYSCORE', P .. ':notify', '-inf', NOW, 'LIMIT', 0, ARGV[3])
for _, id in ipairs(out) do redis.call('ZADD', P .. ':notify', NOW + ARGV[2], id) end
return out
"""

# ARGV: prefix, id, delay (ms)   -> how often this notice was put off by now, 0 when there is none
PUT_OFF = """
local id = ARGV[2]
if not redis.call('ZSCORE', P .. ':notify', id) or redis.call('EXISTS', key(id)) == 0 then return 0 end
redis.call('ZADD', P .. ':notify', NOW + ARGV[3], id)
return redis.call('HINCRBY', key(id), 'notify_attempts', 1)
"""

EVERY = (
    "CREATE", "CLAIM", "TAKE", "TOUCH", "BATCH", "ABANDON", "FINISH", "CANCEL", "REAP", "EXPIRE", "STALE", "DELETE",
    "NOTICES", "PUT_OFF",
)  # fmt: skip
