--- expire: end leases whose deadline has passed, and let former holders try again whose wait is over.
--
-- Guarantee: the ticket of an ended lease comes back as a new entry; its answer still counts until somebody else takes it.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 how many timers to look at
-- Reply: {now_ms, tickets that came back, next_ms, wake}; next_ms is when the next timer falls due, 0 if there is none.
--@include shard
--@include record
--@include token

local due = call("ZRANGE", TIMERS, "-inf", now, "BYSCORE", "LIMIT", 0, tonumber(ARGV[2]))
local lapsed = {}

-- A claim's run may pass over an item that the same claim took otherwise: that lease has a timer of its own.
local function is_timed_alone(item, worker, attempt, length)
  return length > 1 and call("ZSCORE", TIMERS, lease_timer(attempt, worker, item, 1))
end

local function lapse(item, worker, attempt, length)
  local record = record_of(item)
  local slot = record and slot_of(record, worker)
  local held = slot and slot[2] == LEASED and floor(slot[3] / 2) == attempt
  if held and not (record.moved and is_timed_alone(item, worker, attempt, length)) then
    give_back(item, record, slot, LAPSED)
    lapsed[#lapsed + 1] = { item, worker, attempt, slot[3] % 2 }
  end
end

local function retry(item, worker, attempt)
  local record = record_of(item)
  local slot = record and slot_of(record, worker)
  if slot and (slot[2] == LAPSED or slot[2] == RELEASED) and floor(slot[3] / 2) == attempt then
    slot[2] = slot[2] + 1
    -- A new place in the reopened log, since its former holder's cursor has passed the old one.
    requeue(item, record, true)
  end
end

for _, member in ipairs(due) do
  if byte(member) == 76 then -- "L"
    local attempt, worker, first, length = unpack_from(">I4I4I4I2", member, 2)
    for item = first, first + length - 1 do
      lapse(item, worker, attempt, length)
    end
  else
    retry(unpack_from(">I4I4I4", member, 2))
  end
end

if #lapsed > 0 then
  meta.leased = meta.leased - #lapsed
  meta.lapsed = meta.lapsed + #lapsed
  emit(7, 1, ticket_body(lapsed))
  for _, ticket in ipairs(lapsed) do
    if ticket[4] == 0 then
      call("ZADD", TIMERS, now + meta.retry_ms, retry_timer(ticket[1], ticket[2], ticket[3]))
    end
  end
end
for _, member in ipairs(due) do
  call("ZREM", TIMERS, member)
end
local wake = emit_closed()
commit_records()
commit()
local upcoming = call("ZRANGE", TIMERS, 0, 0, "WITHSCORES")
local next_ms = upcoming[2] and upcoming[2] ~= "inf" and tonumber(upcoming[2]) or 0
return { now, #lapsed, next_ms, wake and 1 or 0 }
