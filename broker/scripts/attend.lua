--- attend: an actor turns to the shard: clears the dirty flag before it reads the log, and gets the counters.
--
-- Guarantee: whatever is written after this sets the flag again.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 "1" to clear the flag, "0" to look only
-- Reply: {now_ms, next_ms, dirty, then the counters in the order of broker/scripts/__init__.py}
--@include shard

local dirty = meta.dirty
if ARGV[2] == "1" then
  meta.dirty = 0
  commit()
end
local due = call("ZRANGE", TIMERS, 0, 0, "WITHSCORES")
local next_ms = due[2] and due[2] ~= "inf" and tonumber(due[2]) or 0
return {
  now, next_ms, dirty, meta.appended, meta.settled, meta.labeled, meta.failed, meta.leased, meta.answers,
  meta.lapsed, meta.declined, meta.released, meta.head, meta.sealed, meta.stopping, meta.seq, meta.log_bytes,
  meta.reopened, meta.named,
}
