-- The shard: its meta hash, its clock, and the event log. Every transition of a shard begins with this file.
--
-- KEYS (all transitions of a shard, in this order): 1 meta  2 chunks  3 overflow  4 cursors  5 reopened  6 named
--   7 timers  8 log  9 bell  10 results  11 segments  12 ids
-- ARGV: 1 now_ms, used only if the job was created with clock = "caller"; the rest is the transition's own.
--
-- A transition reads, decides, then writes: it calls commit() once, at its end, after everything that can fail.

local call = redis.call
local sub, byte, char, rep, concat = string.sub, string.byte, string.char, string.rep, table.concat
local pack, unpack_from = struct.pack, struct.unpack
local floor, min, max = math.floor, math.min, math.max

local META, CHUNKS, OVERFLOW, CURSORS, REOPENED, NAMED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local TIMERS, LOG, BELL, RESULTS, SEGMENTS, IDS = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]

-- Configuration, fixed when the shard opens, and counters. One HMGET reads them all.
local FIELDS = {
  "replication", "chunk_items", "lease_ms", "retry_ms", "max_declines", "log_high_bytes", "caller_clock",
  "epoch", "people", "stopping", "sealed", "dirty", "time_ms", "seq", "log_bytes",
  "appended", "head", "attempts", "reopenings", "reopened", "named",
  "leased", "answers", "settled", "labeled", "failed", "lapsed", "declined", "released",
}
local meta, before = {}, {}
do
  local values = call("HMGET", META, unpack(FIELDS))
  if not values[1] then
    return redis.error_reply("NOSHARD this shard is not open")
  end
  for index, field in ipairs(FIELDS) do
    local value = tonumber(values[index])
    meta[field], before[field] = value, value
  end
end

-- The server's clock, never going back; a job with clock = "caller" brings its own.
local now
if meta.caller_clock == 1 then
  now = tonumber(ARGV[1])
else
  local time = call("TIME")
  now = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
end
if now < meta.time_ms then
  now = meta.time_ms
end
meta.time_ms = now

-- MessagePack by hand where cmsgpack cannot: binary strings and arrays of known length.
local int = cmsgpack.pack
local function bin(text)
  local n = #text
  if n < 256 then
    return "\196" .. char(n) .. text
  elseif n < 65536 then
    return pack(">BI2", 197, n) .. text
  end
  return pack(">BI4", 198, n) .. text
end
local function array(n)
  if n < 16 then
    return char(144 + n)
  elseif n < 65536 then
    return pack(">BI2", 220, n)
  end
  return pack(">BI4", 221, n)
end
local function flag(value)
  return value and "\195" or "\194"
end

-- At most one event a kind and call, in the order in which they were added.
local events = {}
local function emit(kind, fields, body)
  meta.seq = meta.seq + 1
  events[#events + 1] = array(3 + fields) .. int(kind) .. int(meta.seq) .. int(now) .. body
end

local rung = false
local function ring()
  rung = true
end

-- Set the dirty flag; true if somebody must be woken.
local function soil()
  if meta.dirty == 1 then
    return false
  end
  meta.dirty = 1
  return true
end

-- Write the events and what changed of the meta hash. Nothing after this can fail.
local function commit()
  local first = meta.seq - #events
  for index, event in ipairs(events) do
    call("XADD", LOG, (first + index) .. "-0", "e", event)
    meta.log_bytes = meta.log_bytes + #event
  end
  if rung then
    call("XADD", BELL, "MAXLEN", 1, "*", "b", "1")
  end
  local changed = {}
  for _, field in ipairs(FIELDS) do
    if meta[field] ~= before[field] then
      changed[#changed + 1] = field
      changed[#changed + 1] = meta[field]
    end
  end
  if #changed > 0 then
    call("HSET", META, unpack(changed))
  end
end
