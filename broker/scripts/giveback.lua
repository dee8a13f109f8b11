--- giveback: a worker gives tickets back, either releasing them (they may take the items again after the retry time) or
--- declining them (never again).
--
-- Guarantee: the ticket comes back for others; an item that was declined too often closes, and the policy hears of it.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 worker  3 epoch of the caller's access verdict  4 tokens  5 "release" | "decline"
-- Reply: {status, now_ms, codes, wake}; status "ok" | "recheck"; one byte a token in codes:
--   1 done  2 done before  3 the lease had ended  4 settled  0 no such lease; wake 1 if an actor must be woken.
--@include shard
--@include record
--@include token

local worker, epoch, declining = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[5] == "decline"
if epoch < meta.epoch then
  return { "recheck", now, "", 0 }
end

local given, timers = {}, {}

local function decline(item, record, slot)
  local named = slot[3] % 2 == 1
  slot[2] = DECLINED
  record.declines = min(record.declines + 1, 255)
  if named then
    record.granted = record.granted - 1 -- it was for this worker only
    keep(item, record)
  else
    requeue(item, record, false)
  end
  local _, answered = used_tickets(record)
  if record.closed == 1 and not named then
    record.granted = record.granted - 1
  elseif record.declines >= meta.max_declines or answered == record.granted then
    close(item, record)
  end
  note_if_closed(item, record)
  close_if_nobody_is_left(item, record)
end

local codes = {}
for index, token in ipairs(tokens_of(ARGV[4])) do
  local code = 0
  if token.worker == worker and token.item < meta.appended and token.attempt <= meta.attempts then
    local record = record_of(token.item)
    local slot = record and slot_of(record, worker)
    if not record then
      code = 4
    elseif slot and floor(slot[3] / 2) == token.attempt and slot[2] ~= ANSWERED then
      if slot[2] == LEASED then
        code = 1
        given[#given + 1] = { token.item, worker, token.attempt, slot[3] % 2 }
        meta.leased = meta.leased - 1
        if declining then
          decline(token.item, record, slot)
        else
          give_back(token.item, record, slot, RELEASED)
        end
        if token.length == 1 and token.first == token.item then
          timers[#timers + 1] = lease_timer(token.attempt, worker, token.first, token.length)
        end
      elseif slot[2] == DECLINED then
        code = declining and 2 or 3
      elseif slot[2] == RELEASED or slot[2] == RELEASED_RETRY then
        code = declining and 3 or 2
      else
        code = 3
      end
    elseif slot then
      code = 3
    end
  end
  codes[index] = char(code)
end

local wake = false
if #given > 0 then
  emit(declining and 6 or 5, 1, ticket_body(given))
  if declining then
    meta.declined = meta.declined + #given
  else
    meta.released = meta.released + #given
    for _, ticket in ipairs(given) do
      if ticket[4] == 0 then
        call("ZADD", TIMERS, now + meta.retry_ms, retry_timer(ticket[1], ticket[2], ticket[3]))
      end
    end
  end
end
for _, timer in ipairs(timers) do
  call("ZREM", TIMERS, timer)
end
wake = emit_closed()
advance_head(meta.appended)
commit_records()
commit()
return { "ok", now, concat(codes), wake and 1 or 0 }
