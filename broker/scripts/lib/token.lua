-- Lease tokens as clients pass them: 18 bytes each, item, worker, attempt, first (u32), length (u16), little endian.
-- Needs lib/shard.lua.
local TOKEN_BYTES = 18
local function tokens_of(data)
  local tokens = {}
  for at = 1, #data, TOKEN_BYTES do
    local item, worker, attempt, first, length = unpack_from("<I4I4I4I4I2", data, at)
    tokens[#tokens + 1] = { item = item, worker = worker, attempt = attempt, first = first, length = length }
  end
  return tokens
end

-- Members of the timers zset: a lease (one claim's range, or one item), and a retry (one former holder of one item).
local function lease_timer(attempt, worker, first, length)
  return "L" .. pack(">I4I4I4I2", attempt, worker, first, length)
end
local function retry_timer(item, worker, attempt)
  return "R" .. pack(">I4I4I4", item, worker, attempt)
end

local function ticket_body(tickets)
  local out = { array(#tickets) }
  for _, ticket in ipairs(tickets) do
    out[#out + 1] = array(3) .. int(ticket[1]) .. int(ticket[2]) .. int(ticket[3])
  end
  return concat(out)
end
