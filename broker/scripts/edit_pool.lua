--- edit_pool: add or remove members, or take over the workforce's allowlist. Every change raises the access epoch, so that
--- news of the pool have an order.
--
-- Guarantee: members, allowlist and epoch change in one step; an allowlist never replaces a newer one, nor that of another
--   workforce. The epoch in the reply is that of what is in force now, whoever wrote it.
-- KEYS: 1 pool  2 members
-- ARGV: 1 "add" | "remove" | "allow"  2.. add: worker, index, ...; remove: worker, ...; allow: 2 workforce  3 version of
--   the list  4 the list (JSON)
-- Reply: {"ok" | "missing", epoch, members changed, members}

local workforce, version, epoch = unpack(redis.call("HMGET", KEYS[1], "workforce", "version", "epoch"))
if not workforce or (ARGV[1] == "allow" and workforce ~= ARGV[2]) then
  return { "missing", 0, 0, 0 }
end
local changed, is_news = 0, true
if ARGV[1] == "add" then
  for index = 2, #ARGV, 2 do
    changed = changed + redis.call("HSETNX", KEYS[2], ARGV[index], ARGV[index + 1])
  end
elseif ARGV[1] == "remove" then
  for index = 2, #ARGV do
    changed = changed + redis.call("HDEL", KEYS[2], ARGV[index])
  end
else
  is_news = tonumber(ARGV[3]) > tonumber(version or -1)
  if is_news then
    redis.call("HSET", KEYS[1], "version", ARGV[3], "allow", ARGV[4])
  end
end
if is_news then
  epoch = redis.call("HINCRBY", KEYS[1], "epoch", 1)
end
return { "ok", tonumber(epoch), changed, redis.call("HLEN", KEYS[2]) }
