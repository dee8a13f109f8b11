--- raise_epoch: from now on, verdicts older than this epoch are answered with "recheck".
--
-- Guarantee: the epoch never falls.
-- KEYS: those of lib/shard.lua.
-- ARGV: 1 now_ms  2 epoch
-- Reply: {epoch}
--@include shard

meta.epoch = max(meta.epoch, tonumber(ARGV[2]))
commit()
return { meta.epoch }
