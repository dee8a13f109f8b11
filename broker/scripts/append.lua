--- append: add items at the end of the shard. They cost nothing until somebody claims them.
--
-- Guarantee: the same append again changes nothing and gets the same reply; nothing is appended once the shard is sealed
--   or stopping.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 place of the first item, or -1 for "at the end"  3 count  4 segment: where their payloads lie, or ""
--   5 named tickets: packed pairs (offset in this append, worker) u32, ordered by offset  6.. object ids, one an item, or none
-- Reply: {status, first item, wake}; status "ok" | "repeated" | "gap" | "sealed" | "stopped" | "taken" (an object id is
--   known); wake 1 if an actor must be woken.
--@include shard
--@include record

local at, count, segment, pairs_data = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local first = at < 0 and meta.appended or at
if first + count <= meta.appended then
  return { "repeated", first, 0 }
elseif first ~= meta.appended then
  return { "gap", meta.appended, 0 }
elseif meta.sealed == 1 then
  return { "sealed", first, 0 }
elseif meta.stopping ~= 0 then
  return { "stopped", first, 0 }
end
local known = {}
for index = 6, #ARGV do
  if known[ARGV[index]] or call("HEXISTS", IDS, ARGV[index]) == 1 then
    return { "taken", first, 0 }
  end
  known[ARGV[index]] = true
end

local leading = meta.head == meta.appended
meta.appended = first + count
local named = {}
local last, record
for place = 1, #pairs_data, 8 do
  local offset, worker = unpack_from("<I4I4", pairs_data, place)
  local item = first + offset
  if item ~= last then
    record = record_of(item)
    last = item
  end
  record.granted = record.granted + 1
  record.reserved = record.reserved + 1
  keep(item, record)
  named_added[#named_added + 1] = named_member(worker, item)
  named[#named + 1] = pack("<I4I4", item, worker)
end
if R == 0 then
  -- The main log has no tickets, so the head never waits. An item that names nobody closes at once: the policy hears of it.
  for item = first, meta.appended - 1 do
    record = record_of(item)
    if record.granted == 0 then
      close(item, record)
      note_if_closed(item, record)
      keep(item, record)
    end
  end
  if leading then
    meta.head = meta.appended
  end
end
emit(1, 4, int(first) .. int(count) .. bin(concat(named)) .. int(segment))
local wake = emit_closed()
if segment ~= "" then
  call("ZADD", SEGMENTS, first, first .. "|" .. count .. "|" .. segment)
end
for index = 6, #ARGV do
  call("HSET", IDS, ARGV[index], first + index - 6)
end
ring()
commit_records()
commit()
return { "ok", first, wake and 1 or 0 }
