--- move_job: change a job's status, if it is in one of the statuses from which that is allowed.
--
-- Guarantee: of several callers, one moves the job; a final status never changes.
-- KEYS: 1 job
-- ARGV: 1 new status  2 statuses from which it may change, joined by ","  3.. further fields and values to set
-- Reply: {"ok" | "missing" | "repeated" | "refused", status after the call}

local status = redis.call("HGET", KEYS[1], "status")
if not status then
  return { "missing", "" }
elseif status == ARGV[1] then
  return { "repeated", status }
elseif not string.find("," .. ARGV[2] .. ",", "," .. status .. ",", 1, true) then
  return { "refused", status }
end
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call("HSET", KEYS[1], "status", ARGV[1], "moved_at_ms", now, unpack(ARGV, 3))
return { "ok", ARGV[1] }
