--- verdict: what a caller needs to judge whether a worker may come in: the pool's epoch and the worker's index.
--
-- Guarantee: both are of the same moment.
-- KEYS: 1 pool  2 members
-- ARGV: 1 worker
-- Reply: {epoch, index}; epoch 0 if there is no such pool, index -1 if the worker is not a member.

local epoch = redis.call("HGET", KEYS[1], "epoch")
local index = redis.call("HGET", KEYS[2], ARGV[1])
return { tonumber(epoch or 0), tonumber(index or -1) }
