--- create_pool: make a pool of a workforce, empty, with the workforce's allowlist.
--
-- Guarantee: a name is taken once; the same pool again changes nothing.
-- KEYS: 1 pool
-- ARGV: 1 workforce  2 allowlist (JSON list of CIDR ranges)
-- Reply: {"ok" | "repeated" | "conflict"}

local workforce = redis.call("HGET", KEYS[1], "workforce")
if workforce then
  return { workforce == ARGV[1] and "repeated" or "conflict" }
end
redis.call("HSET", KEYS[1], "workforce", ARGV[1], "allow", ARGV[2], "epoch", 1)
return { "ok" }
