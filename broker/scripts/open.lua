--- open: make a shard. Every key exists from here on, so that a migrating slot answers all of them or none. What it must
--- know of its pool it has been told before: see learn_pool.
--
-- Guarantee: opening a shard that is open changes nothing.
-- KEYS: 1 meta  2 chunks  3 overflow  4 cursors  5 reopened  6 named  7 timers  8 log  9 bell  10 results  11 segments  12 ids
-- ARGV: 1 replication  2 chunk_items  3 lease_ms  4 retry_ms  5 max_declines  6 log_high_bytes  7 caller_clock
-- Reply: {"ok" | "repeated"}

local call = redis.call
if call("HEXISTS", KEYS[1], "replication") == 1 then
  return { "repeated" }
end
call("HSET", KEYS[1], "replication", ARGV[1], "chunk_items", ARGV[2], "lease_ms", ARGV[3], "retry_ms", ARGV[4],
  "max_declines", ARGV[5], "log_high_bytes", ARGV[6], "caller_clock", ARGV[7], "incarnation", 1, "stopping", 0,
  "sealed", 0, "dirty", 0, "time_ms", 0, "seq", 0, "log_bytes", 0, "appended", 0, "head", 0, "attempts", 0,
  "reopenings", 0, "reopened", 0, "named", 0, "leased", 0, "answers", 0, "settled", 0, "labeled", 0, "failed", 0,
  "lapsed", 0, "declined", 0, "released", 0)
for _, key in ipairs({ KEYS[2], KEYS[3], KEYS[4], KEYS[12] }) do
  call("HSET", key, "", "")
end
for _, key in ipairs({ KEYS[5], KEYS[7], KEYS[11] }) do
  call("ZADD", key, "+inf", "")
end
-- Ranges by member need equal scores: this one sorts before every worker.
call("ZADD", KEYS[6], 0, "")
for _, key in ipairs({ KEYS[8], KEYS[9], KEYS[10] }) do
  call("XADD", key, "0-1", "", "")
  call("XTRIM", key, "MAXLEN", 0)
end
return { "ok" }
