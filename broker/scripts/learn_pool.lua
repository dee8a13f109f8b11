--- learn_pool: what the shard must know of its pool. From now on, verdicts older than this epoch are answered with "recheck".
--- A shard that is not open yet opens with it.
--
-- Guarantee: the epoch never falls; news that are older than what the shard knows change nothing.
-- KEYS: those of lib/shard.lua; only 1 meta is used.
-- ARGV: 1 epoch  2 people: how many members the pool has
-- Reply: {epoch}

local known = tonumber(redis.call("HGET", KEYS[1], "epoch") or 0)
if tonumber(ARGV[1]) < known then
  return { known }
end
redis.call("HSET", KEYS[1], "epoch", ARGV[1], "people", ARGV[2])
return { tonumber(ARGV[1]) }
