--- submit: take what a worker says under their leases.
--
-- Guarantee: an accepted answer is in the event log exactly once; the same submit again gets the same reply; another answer
--   under the same lease is refused; a late answer counts while its ticket is free, and is logged as unused otherwise.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 worker  3 epoch of the caller's access verdict  4 tokens  5.. for each token: seconds, content
-- Reply: {status, now_ms, codes, wake}; status "ok" | "recheck"; one byte a token in codes:
--   1 accepted  2 accepted before  3 expired  4 settled  5 conflict  0 no such lease; wake 1 if an actor must be woken.
--@include shard
--@include record
--@include token

local worker, epoch = tonumber(ARGV[2]), tonumber(ARGV[3])
if epoch < meta.epoch then
  return { "recheck", now, "", 0 }
end

local ACCEPTED, REPEATED, EXPIRED, ALREADY_SETTLED, CONFLICT, UNKNOWN = 1, 2, 3, 4, 5, 0
local revoked = meta.stopping == 2
local full = false

local function digest_of(index)
  local token = sub(ARGV[4], (index - 1) * TOKEN_BYTES + 1, index * TOKEN_BYTES)
  return tonumber(sub(redis.sha1hex(token .. ARGV[4 + 2 * index]), 1, 8), 16)
end

-- The usual case, straight on the chunk's bytes: a plain item under a live lease.
local function submit_plain(token, index, chunk, number)
  local item, mine, answered = token.item, nil, 0
  for slot = 1, byte(chunk, C + item % C + 1) do
    local offset = slot_offset(item, slot)
    local who, value = unpack_from("<I4I4", chunk, offset + 1)
    local state = who % 8
    if state == ANSWERED then
      answered = answered + 1
    end
    if who - state == worker * 8 then
      mine = { offset, state, value }
    end
  end
  if not mine then
    return UNKNOWN
  elseif mine[2] == ANSWERED then
    return mine[3] == digest_of(index) and REPEATED or CONFLICT
  elseif mine[3] ~= token.attempt * 2 then
    return mine[3] < token.attempt * 2 and UNKNOWN or EXPIRED
  elseif revoked then
    return EXPIRED
  end
  splice(number, mine[1], pack("<I4I4", worker * 8 + ANSWERED, digest_of(index)))
  meta.leased = meta.leased - 1
  full = answered + 1 == R
  return ACCEPTED
end

local function submit_moved(token, index)
  local item = token.item
  local record = record_of(item)
  if not record then
    return ALREADY_SETTLED
  end
  local slot = slot_of(record, worker)
  if not slot then
    return UNKNOWN
  end
  local state, value = slot[2], slot[3]
  if state == ANSWERED then
    return value == digest_of(index) and REPEATED or CONFLICT
  elseif state == DECLINED or floor(value / 2) ~= token.attempt then
    return floor(value / 2) < token.attempt and UNKNOWN or EXPIRED
  elseif revoked or state == RELEASED or state == RELEASED_RETRY then
    return EXPIRED
  end
  if state == LEASED then
    meta.leased = meta.leased - 1
    slot[2], slot[3] = ANSWERED, digest_of(index)
    keep(item, record)
  elseif value % 2 == 1 then -- a named ticket that lapsed waits for this worker alone
    record.reserved = record.reserved - 1
    named_removed[#named_removed + 1] = named_member(worker, item)
    slot[2], slot[3] = ANSWERED, digest_of(index)
    keep(item, record)
  elseif returned_tickets(item, record) > 0 then
    slot[2], slot[3] = ANSWERED, digest_of(index)
    requeue(item, record, false)
  else
    return EXPIRED
  end
  local _, answered = used_tickets(record)
  full = answered == record.granted
  if not full then
    close_if_nobody_is_left(item, record)
  end
  return ACCEPTED
end

local tokens = tokens_of(ARGV[4])
local codes, logged, timers = {}, {}, {}
for index, token in ipairs(tokens) do
  local code
  full = false
  if token.worker ~= worker or token.item >= meta.appended or token.attempt > meta.attempts then
    code = UNKNOWN
  else
    local chunk, number = chunk_of(token.item)
    if chunk and sub(chunk, token.item % C + 1, token.item % C + 1) == PLAIN then
      code = submit_plain(token, index, chunk, number)
    else
      code = submit_moved(token, index)
    end
  end
  codes[index] = char(code)
  if code == ACCEPTED or code == EXPIRED or code == ALREADY_SETTLED then
    local seconds, content = tonumber(ARGV[3 + 2 * index]), ARGV[4 + 2 * index]
    local used = code == ACCEPTED
    logged[#logged + 1] = array(6)
      .. int(token.item)
      .. int(token.attempt)
      .. flag(used)
      .. flag(full)
      .. "\203" .. pack(">d", seconds)
      .. bin(content)
    if used then
      meta.answers = meta.answers + 1
      -- Tokens are not signed: one that names a run in which its item does not lie must not end that run's timer.
      if token.first <= token.item and token.item < token.first + token.length then
        local timer = lease_timer(token.attempt, worker, token.first, token.length)
        timers[timer] = (timers[timer] or token.length) - 1
      end
    end
  end
end

local wake = false
if #logged > 0 then
  emit(3, 2, int(worker) .. array(#logged) .. concat(logged))
  wake = soil()
  emit_closed()
end
-- A claim's timer goes when all of its items are answered in one call; otherwise it fires later and finds nothing.
for timer, open in pairs(timers) do
  if open <= 0 then
    call("ZREM", TIMERS, timer)
  end
end
if has_closed then
  advance_head(meta.appended)
end
commit_records()
commit()
return { "ok", now, concat(codes), wake and 1 or 0 }
