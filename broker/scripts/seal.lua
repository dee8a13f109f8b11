--- seal: the input is complete; the job can end.
--
-- Guarantee: nothing is appended afterwards.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms
-- Reply: {status, wake}; status "ok" | "repeated"
--@include shard

if meta.sealed == 1 then
  return { "repeated", 0 }
end
meta.sealed = 1
emit(12, 0, "")
local wake = soil()
ring()
commit()
return { "ok", wake and 1 or 0 }
