--- extend: grant more tickets to items that have not ended, open ones or for one worker.
--
-- Guarantee: an item never has more tickets than the maximum; the new ones go to people who did not have the item, and
--   open ones are granted only while the pool has such people.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 maximum tickets of an item  3 open tickets for each item  4 items, packed u32
--   5 named tickets, packed pairs (item, worker) u32
-- Reply: {now_ms, codes}; one byte for each item, then for each pair: 1 granted  4 settled  6 over the maximum
--   7 the worker has or had the item  8 everybody of the pool has or had it  0 no such item.
--@include shard
--@include record

local maximum, tickets, items_data, pairs_data = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local codes, opened, named = {}, {}, {}

local function extendable(item, more)
  if item >= meta.appended then
    return 0
  end
  local record = record_of(item)
  if not record then
    return 4
  elseif record.granted + more > maximum then
    return 6
  end
  return 1, record
end

-- How many workers cannot take one more ticket of the item: they hold it, answered it, or declined it.
local function barred_workers(record)
  local barred = 0
  for _, slot in ipairs(record.slots) do
    if slot[2] == LEASED or slot[2] == ANSWERED or slot[2] == DECLINED then
      barred = barred + 1
    end
  end
  return barred
end

for place = 1, #items_data, 4 do
  local item = unpack_from("<I4", items_data, place)
  local code, record = extendable(item, tickets)
  if code == 1 and barred_workers(record) >= meta.people then
    code = 8
  end
  if code == 1 then
    record.granted = record.granted + tickets
    record.closed = 0
    requeue(item, record, true)
    opened[#opened + 1] = pack("<I4", item)
  end
  codes[#codes + 1] = char(code)
end
for place = 1, #pairs_data, 8 do
  local item, worker = unpack_from("<I4I4", pairs_data, place)
  local code, record = extendable(item, 1)
  if code == 1 then
    local waiting = call("ZSCORE", NAMED, named_member(worker, item))
    if slot_of(record, worker) or waiting then
      code = 7
    else
      record.granted = record.granted + 1
      record.reserved = record.reserved + 1
      keep(item, record)
      named_added[#named_added + 1] = named_member(worker, item)
      named[#named + 1] = pack("<I4I4", item, worker)
    end
  end
  codes[#codes + 1] = char(code)
end
if #opened + #named > 0 then
  emit(9, 3, bin(concat(opened)) .. int(tickets) .. bin(concat(named)))
end
commit_records()
commit()
return { now, concat(codes) }
