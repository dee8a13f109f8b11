--- claim: give a worker up to k tickets, each of a different item that they may answer.
--
-- Guarantee: answers plus live leases of an item never exceed its tickets; a worker never gets an item that they answered,
--   declined or hold; the cost does not depend on how many items or workers there are.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 worker  3 epoch of the caller's access verdict  4 k  5 lease_ms (0 = the job's)
-- Reply: {status, now_ms, deadline_ms, attempt, first, length, main items, other items, next_ms}; items packed u32;
--   status "more" | "wait" | "none" | "stopped" | "recheck" | "busy".
--@include shard
--@include record
--@include token

local worker, epoch, k, lease_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if lease_ms == 0 then
  lease_ms = meta.lease_ms
end

local function refuse(status)
  return { status, now, 0, 0, 0, 0, "", "", 0 }
end
if epoch < meta.epoch then
  return refuse("recheck")
end
if meta.stopping ~= 0 then
  return refuse("stopped")
end
if meta.log_bytes >= meta.log_high_bytes then
  return refuse("busy")
end

local attempt = meta.attempts + 1
local deadline = now + lease_ms
local others = {}

local function take(item, record, value)
  local slot = slot_of(record, worker)
  if slot then
    slot[2], slot[3] = LEASED, value
  else
    record.slots[#record.slots + 1] = { worker, LEASED, value }
  end
  others[#others + 1] = item
end

local looked, cut, names_left = 0, false, false -- one call looks at a bounded number of entries; the next one goes on from here
local LOOK_AHEAD, MAX_RUN = 64, 4096 -- a run's length is u16 in its timer; items that have ended may lie in it

-- 1. Tickets with this worker's name on them. Those of items that have ended are dropped.
if meta.named > 0 then
  local mine = pack(">I4", worker)
  local limit = k + LOOK_AHEAD
  local members = call("ZRANGE", NAMED, "[" .. mine, "(" .. pack(">I4", worker + 1), "BYLEX", "LIMIT", 0, limit)
  for place, member in ipairs(members) do
    if #others == k then
      break
    end
    -- Until all of them are seen this worker takes nothing else, or they could hold two tickets of one item.
    names_left = place == limit
    cut = names_left
    local item = unpack_from(">I4", member, 5)
    local record = record_of(item)
    named_removed[#named_removed + 1] = member
    if record then
      record.reserved = record.reserved - 1
      take(item, record, attempt * 2 + 1)
      keep(item, record)
    end
  end
end

-- 2. Tickets that came back or were added, in order; the cursor passes those that this worker may not have.
local seen, seen_before
local cursor, cursor_before
do
  local stored = call("HGET", CURSORS, worker)
  if stored then
    cursor_before, seen_before = unpack_from("<I4I4", stored)
  else
    cursor_before, seen_before = 0, 0
  end
  cursor, seen = cursor_before, seen_before
end
while #others < k and meta.reopened > 0 and not cut do
  if looked >= k + LOOK_AHEAD then
    cut = true
    break
  end
  local page = call("ZRANGE", REOPENED, "(" .. seen, "(inf", "BYSCORE", "LIMIT", 0, min(k - #others, 32), "WITHSCORES")
  if #page == 0 then
    break
  end
  for at = 1, #page, 2 do
    local item = tonumber(page[at])
    local record = record_of(item)
    local slot = slot_of(record, worker)
    if not slot or slot[2] == LAPSED_RETRY or slot[2] == RELEASED_RETRY then
      if returned_tickets(item, record) > 0 then
        take(item, record, attempt * 2)
        requeue(item, record, false)
      end
    end
    seen = tonumber(page[at + 1])
    looked = looked + 1
  end
end

-- 3. The main log: everything from the cursor (or the head) on is this worker's, in order.
if cursor < meta.head then
  cursor = meta.head
end
local first = cursor
local mine = pack("<I4I4", worker * 8 + LEASED, attempt * 2)
local main, main_count = {}, 0
local wanted = names_left and 0 or k - #others
while wanted > 0 and cursor < meta.appended do
  if cursor - first >= MAX_RUN then
    cut = true
    break
  end
  local chunk, number = chunk_of(cursor)
  local at = cursor % C
  local run = min(wanted, C - at, meta.appended - cursor)
  local passes = byte(chunk, C + at + 1)
  if
    passes < R
    and sub(chunk, at + 1, at + run) == rep(PLAIN, run)
    and sub(chunk, C + at + 1, C + at + run) == rep(char(passes), run)
  then
    -- A run of plain items that the same number of workers has passed: three runs of bytes change.
    local slots = slot_offset(cursor, passes + 1)
    chunks[number] = sub(chunk, 1, C + at)
      .. rep(char(passes + 1), run)
      .. sub(chunk, C + at + run + 1, slots)
      .. rep(mine, run)
      .. sub(chunk, slots + run * 8 + 1)
    chunk_changed[number] = true
    for item = cursor, cursor + run - 1 do
      main_count = main_count + 1
      main[main_count] = item
    end
    cursor, wanted = cursor + run, wanted - run
  else
    local mark = sub(chunk, at + 1, at + 1)
    if passes < R then
      if mark == PLAIN then
        splice(number, slot_offset(cursor, passes + 1), mine)
        splice(number, C + at, char(passes + 1))
        main_count = main_count + 1
        main[main_count] = cursor
        wanted = wanted - 1
      else
        local record = record_of(cursor)
        if slot_of(record, worker) then
          -- They hold or had it already: the ticket that they pass is for others, in the reopened log.
          splice(number, C + at, char(passes + 1))
          requeue(cursor, record, false)
        else
          splice(number, C + at, char(passes + 1))
          record.slots[#record.slots + 1] = { worker, LEASED, attempt * 2 }
          keep(cursor, record)
          main_count = main_count + 1
          main[main_count] = cursor
          wanted = wanted - 1
        end
      end
    end
    cursor = cursor + 1
  end
end
local length = cursor - first
advance_head(cursor)

local count = main_count + #others
if cursor ~= cursor_before or seen ~= seen_before then
  call("HSET", CURSORS, worker, pack("<I4I4", cursor, seen))
end
if count == 0 then
  commit_records()
  commit()
  local ended = meta.sealed == 1 and meta.settled == meta.appended
  local status = cut and "more" or ended and "none" or "wait"
  local due = call("ZRANGE", TIMERS, 0, 0, "WITHSCORES")
  local next_ms = due[2] and due[2] ~= "inf" and tonumber(due[2]) or 0
  return { status, now, 0, 0, 0, 0, "", "", next_ms }
end

local function packed(items)
  local out = {}
  for index, item in ipairs(items) do
    out[index] = pack("<I4", item)
  end
  return concat(out)
end
local main_items, other_items = packed(main), packed(others)
meta.attempts = attempt
meta.leased = meta.leased + count
emit(2, 4, int(worker) .. int(attempt) .. int(deadline) .. bin(other_items .. main_items))
if main_count > 0 then
  call("ZADD", TIMERS, deadline, lease_timer(attempt, worker, first, length))
end
for _, item in ipairs(others) do
  call("ZADD", TIMERS, deadline, lease_timer(attempt, worker, item, 1))
end
commit_records()
commit()
return { "more", now, deadline, attempt, first, length, main_items, other_items, 0 }
