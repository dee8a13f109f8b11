--- learn_pool: what the shard must know of its pool. From now on, verdicts older than this epoch are answered with "recheck".
--
-- Guarantee: the epoch never falls; news that are older than what the shard knows change nothing.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 epoch  3 people: how many members the pool has
-- Reply: {epoch}
--@include shard

local epoch = tonumber(ARGV[2])
if epoch >= meta.epoch then
  meta.epoch = epoch
  meta.people = tonumber(ARGV[3])
  commit()
end
return { meta.epoch }
