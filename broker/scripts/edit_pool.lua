--- edit_pool: add or remove members, or replace the allowlist. Every change raises the access epoch, so that news of
--- the pool have an order.
--
-- Guarantee: members, allowlist and epoch change in one step.
-- KEYS: 1 pool  2 members
-- ARGV: 1 "add" | "remove" | "allow"  2.. add: worker, index, ...; remove: worker, ...; allow: the new list (JSON)
-- Reply: {"ok" | "missing", epoch, members changed, members}

if redis.call("EXISTS", KEYS[1]) == 0 then
  return { "missing", 0, 0, 0 }
end
local changed = 0
if ARGV[1] == "add" then
  for index = 2, #ARGV, 2 do
    changed = changed + redis.call("HSETNX", KEYS[2], ARGV[index], ARGV[index + 1])
  end
elseif ARGV[1] == "remove" then
  for index = 2, #ARGV do
    changed = changed + redis.call("HDEL", KEYS[2], ARGV[index])
  end
else
  redis.call("HSET", KEYS[1], "allow", ARGV[2])
end
return { "ok", redis.call("HINCRBY", KEYS[1], "epoch", 1), changed, redis.call("HLEN", KEYS[2]) }
