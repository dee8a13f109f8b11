--- stop: give out no new work. Held leases may finish until their deadline, or end at once if revoked.
--
-- Guarantee: once this has replied, no claim of the shard succeeds and nothing is appended.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 "1" to revoke held leases
-- Reply: {status, wake}; status "ok" | "repeated"
--@include shard

local stopping = ARGV[2] == "1" and 2 or 1
if meta.stopping >= stopping then
  return { "repeated", 0 }
end
meta.stopping = stopping
emit(13, 1, flag(stopping == 2))
local wake = soil()
ring()
commit()
return { "ok", wake and 1 or 0 }
