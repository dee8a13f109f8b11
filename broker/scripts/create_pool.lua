--- create_pool: take a pool's name for a workforce. Nobody gets in before edit_pool brings the workforce's allowlist.
--
-- Guarantee: a name is taken once; the same pool again changes nothing.
-- KEYS: 1 pool
-- ARGV: 1 workforce
-- Reply: {"ok" | "repeated" | "conflict"}

local workforce = redis.call("HGET", KEYS[1], "workforce")
if workforce then
  return { workforce == ARGV[1] and "repeated" or "conflict" }
end
redis.call("HSET", KEYS[1], "workforce", ARGV[1])
return { "ok" }
