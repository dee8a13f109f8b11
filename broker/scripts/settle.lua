--- settle: the policy's verdict that items end, with their labels or their reasons. Frees their records.
--
-- Guarantee: an item ends once; its first verdict stands, and its label is in the results stream and in the event log in
--   the same step.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 how many results to keep about  3.. for each item: item, end (1 labeled 2 failed 3 unlabeled),
--   version, reason, label
-- Reply: {now_ms, codes, finished}; one byte an item: 1 settled  4 settled before  0 no such item; finished 1 when every
--   item of a sealed shard has ended.
--@include shard
--@include record

local keep_results = tonumber(ARGV[2])
local codes, ends, results = {}, {}, {}
for index = 3, #ARGV, 5 do
  local item, ending, version = tonumber(ARGV[index]), tonumber(ARGV[index + 1]), tonumber(ARGV[index + 2])
  local record = item < meta.appended and record_of(item) or nil
  if record then
    for _, slot in ipairs(record.slots) do
      if slot[2] == LEASED then
        meta.leased = meta.leased - 1
      end
    end
    -- Its timers, and named tickets that still wait for their worker, are dropped when they are met and find no record.
    leave_main(item)
    local chunk, number = chunk_of(item)
    if chunk then
      splice(number, item % C, SETTLED)
    end
    if record.moved then
      record_removed[item] = true
    end
    records[item] = false
    meta.settled = meta.settled + 1
    if ending == 1 then
      meta.labeled = meta.labeled + 1
    elseif ending == 2 then
      meta.failed = meta.failed + 1
    end
    ends[#ends + 1] = array(5) .. int(item) .. int(ending) .. int(version) .. int(ARGV[index + 3]) .. bin(ARGV[index + 4])
    results[#results + 1] = index
    codes[#codes + 1] = "\1"
  else
    codes[#codes + 1] = item < meta.appended and "\4" or "\0"
  end
end
local finished = meta.sealed == 1 and meta.settled == meta.appended
if #ends > 0 then
  emit(10, 1, array(#ends) .. concat(ends))
  advance_head(meta.appended)
  if finished then
    ring()
  end
end
for _, index in ipairs(results) do
  call("XADD", RESULTS, "MAXLEN", "~", keep_results, "*", "item", ARGV[index], "end", ARGV[index + 1],
    "version", ARGV[index + 2], "reason", ARGV[index + 3], "label", ARGV[index + 4])
end
commit_records()
commit()
return { now, concat(codes), finished and 1 or 0 }
