--- trim: drop events that are archived.
--
-- Guarantee: the same trim again changes nothing, so of several that archived the same events each may trim.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 the last archived event  3 bytes of the events that are dropped
-- Reply: {events left}
--@include shard

local dropped = call("XTRIM", LOG, "MINID", (tonumber(ARGV[2]) + 1) .. "-0")
local left = call("XLEN", LOG)
meta.log_bytes = left == 0 and 0 or max(0, meta.log_bytes - (dropped > 0 and tonumber(ARGV[3]) or 0))
commit()
return { left }
