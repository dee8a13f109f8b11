--- renew: move the deadline of live leases, never to an earlier time. The leases of one claim's run of items are renewed
--- together.
--
-- Guarantee: a lease that is still held when this is called stays with its worker until the new deadline.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 worker  3 epoch of the caller's access verdict  4 tokens  5 lease_ms (0 = the job's)
-- Reply: {status, now_ms, deadline_ms, codes}; status "ok" | "recheck"; one byte a token: 1 renewed  3 the lease had ended.
--@include shard
--@include record
--@include token

local worker, epoch, lease_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
if epoch < meta.epoch then
  return { "recheck", now, 0, "" }
end
if lease_ms == 0 then
  lease_ms = meta.lease_ms
end
local deadline = now + lease_ms

local codes, renewed, timers = {}, {}, {}
for index, token in ipairs(tokens_of(ARGV[4])) do
  local held = false
  if token.worker == worker and token.item < meta.appended and meta.stopping ~= 2 then
    local record = record_of(token.item)
    local slot = record and slot_of(record, worker)
    held = slot and slot[2] == LEASED and floor(slot[3] / 2) == token.attempt
  end
  if held then
    renewed[#renewed + 1] = { token.item, worker, token.attempt }
    timers[lease_timer(token.attempt, worker, token.first, token.length)] = true
  end
  codes[index] = char(held and 1 or 3)
end
if #renewed > 0 then
  emit(4, 3, int(worker) .. int(deadline) .. ticket_body(renewed))
  for timer in pairs(timers) do
    -- Never earlier, since the run's other leases were promised the old deadline; and no timer that no claim has set.
    call("ZADD", TIMERS, "XX", "GT", deadline, timer)
  end
end
commit()
return { "ok", now, deadline, concat(codes) }
