--- trim: drop events that are archived.
--
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 the last archived event  3 bytes of the events that are dropped
-- Reply: {events left}
--@include shard

call("XTRIM", LOG, "MINID", (tonumber(ARGV[2]) + 1) .. "-0")
meta.log_bytes = call("XLEN", LOG) == 0 and 0 or max(0, meta.log_bytes - tonumber(ARGV[3]))
commit()
return { call("XLEN", LOG) }
