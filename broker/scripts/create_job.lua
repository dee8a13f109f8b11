--- create_job: take a job's name.
--
-- Guarantee: a name is taken once; the same request (same token) again gets the same reply. Whether it asks
--   for the same is for the caller to compare.
-- KEYS: 1 job
-- ARGV: 1 specification (JSON)  2 request token
-- Reply: {"ok" | "repeated" | "conflict", created_at_ms}

local stored = redis.call("HMGET", KEYS[1], "token", "created_at_ms")
if stored[1] then
  return { stored[1] == ARGV[2] and "repeated" or "conflict", tonumber(stored[2]) }
end
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call("HSET", KEYS[1], "spec", ARGV[1], "token", ARGV[2], "status", "Initializing", "created_at_ms", now)
return { "ok", now }
