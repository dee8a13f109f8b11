--- enroll: give people their index in the workforce. It never changes, and is never given to somebody else.
--
-- Guarantee: the same worker always gets the same index.
-- KEYS: 1 index
-- ARGV: 1 how many indexes there may be  2.. workers
-- Reply: the indexes, in order; -1 for each worker that no index was left for

local reply = {}
local count = tonumber(redis.call("HGET", KEYS[1], "") or 0)
local added = {}
for place = 2, #ARGV do
  local index = tonumber(redis.call("HGET", KEYS[1], ARGV[place]) or added[ARGV[place]] or -1)
  if index < 0 and count < tonumber(ARGV[1]) then
    index = count
    count = count + 1
    added[ARGV[place]] = index
  end
  reply[place - 1] = index
end
for worker, index in pairs(added) do
  redis.call("HSET", KEYS[1], worker, index)
end
redis.call("HSET", KEYS[1], "", count)
return reply
