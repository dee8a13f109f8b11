-- Records of items in flight. Needs lib/shard.lua.
--
-- Item i is the i-th appended id. Before its first claim it costs nothing. Then it is part of a chunk, a field of the
-- chunks hash that holds chunk_items neighbours column by column, so that a claim of many writes few runs of bytes:
--
--   chunk = marks (1 byte an item) .. passes (1 byte an item) .. slot 1 of every item .. slot 2 .. ... slot r
--   mark   0 plain   1 moved to the overflow   2 settled
--   passes how many workers the main log has taken past the item; at r the head may move on
--   slot   worker * 8 + state (u32), value (u32)
--
-- An item with a history (a ticket that came back, an extra or a named ticket, a decline) is moved to the overflow: one
-- hash field, granted, reserved, declines, closed (1 byte each), then its slots. A settled item has no record at all.
--
-- States of a slot; its value is the claim's attempt * 2 + named while the ticket may still be answered, and the answer's
-- digest once it is.
local LEASED, ANSWERED = 1, 2
local LAPSED, LAPSED_RETRY = 3, 4 -- the lease expired: a late answer counts while the ticket is free; _RETRY may take it anew
local RELEASED, RELEASED_RETRY = 5, 6 -- given back
local DECLINED = 7 -- never again

local PLAIN, MOVED, SETTLED = "\0", "\1", "\2"

local R, C = meta.replication, meta.chunk_items
local chunks, chunk_changed = {}, {}
local records, record_changed, record_removed = {}, {}, {}
local empty_chunk

local function chunk_of(item)
  local number = floor(item / C)
  local chunk = chunks[number]
  if chunk == nil then
    chunk = call("HGET", CHUNKS, number)
    if not chunk then
      if (number + 1) * C <= meta.head then
        chunk = false -- every item of it was moved or settled, and the head is past it
      else
        empty_chunk = empty_chunk or rep("\0", C * (2 + 8 * R))
        chunk = empty_chunk
      end
    end
    chunks[number] = chunk
  end
  return chunk, number
end

-- Replace the bytes of a chunk that begin at the 0-based offset.
local function splice(number, offset, bytes)
  local chunk = chunks[number]
  chunks[number] = sub(chunk, 1, offset) .. bytes .. sub(chunk, offset + #bytes + 1)
  chunk_changed[number] = true
end

local function slot_offset(item, slot)
  return C * 2 + ((slot - 1) * C + item % C) * 8
end

-- Tickets that the main log still has for the item.
local function main_tickets(item)
  if item < meta.head then
    return 0
  end
  local chunk = chunk_of(item)
  return R - byte(chunk, C + item % C + 1)
end

-- The record of an item as {granted, reserved, declines, closed, slots = {{worker, state, value}, ...}}; nil once settled.
local function record_of(item)
  local record = records[item]
  if record ~= nil then
    return record or nil
  end
  local chunk = chunk_of(item)
  local mark = chunk and sub(chunk, item % C + 1, item % C + 1) or MOVED
  if mark == MOVED then
    local data = call("HGET", OVERFLOW, item)
    if data then
      local granted, reserved, declines, closed = byte(data, 1, 4)
      local slots = {}
      for at = 5, #data, 8 do
        local who, value = unpack_from("<I4I4", data, at)
        slots[#slots + 1] = { floor(who / 8), who % 8, value }
      end
      record = { granted = granted, reserved = reserved, declines = declines, closed = closed, slots = slots, moved = true }
    else
      record = false
    end
  elseif mark == PLAIN then
    record = { granted = R, reserved = 0, declines = 0, closed = 0, slots = {}, moved = false }
    for slot = 1, byte(chunk, C + item % C + 1) do
      local who, value = unpack_from("<I4I4", chunk, slot_offset(item, slot) + 1)
      record.slots[slot] = { floor(who / 8), who % 8, value }
    end
  else
    record = false
  end
  records[item] = record
  return record or nil
end

-- Keep a changed record: from now on it lives in the overflow.
local function keep(item, record)
  if not record.moved then
    record.moved = true
    local _, number = chunk_of(item)
    splice(number, item % C, MOVED)
  end
  records[item] = record
  record_changed[item] = true
end

local function slot_of(record, worker)
  for _, slot in ipairs(record.slots) do
    if slot[1] == worker then
      return slot
    end
  end
end

local function used_tickets(record)
  local used, answered = 0, 0
  for _, slot in ipairs(record.slots) do
    if slot[2] == LEASED then
      used = used + 1
    elseif slot[2] == ANSWERED then
      used, answered = used + 1, answered + 1
    end
  end
  return used, answered
end

-- Tickets free for anybody that the main log does not hand out: they came back, or were added.
local function returned_tickets(item, record)
  if record.closed == 1 then
    return 0
  end
  return record.granted - record.reserved - (used_tickets(record)) - main_tickets(item)
end

-- Bring the reopened log in line with the record. fresh: put the item at its end, for workers who passed it.
local requeued = {}
local function requeue(item, record, fresh)
  requeued[item] = requeued[item] or fresh or false
  keep(item, record)
end

-- Leave the main log: the head may pass. A closed or settled item hands out nothing more.
local function leave_main(item)
  if item >= meta.head then
    local _, number = chunk_of(item)
    splice(number, C + item % C, char(R))
  end
end

-- Items that give out no more tickets although not all were answered: they were declined too often, or by everybody who
-- was named. Once no ticket of theirs is outstanding, the policy decides with the answers that there are.
local closed_items, has_closed = {}, false
local function close(item, record)
  has_closed = true
  record.granted = (used_tickets(record)) + record.reserved
  record.closed = 1
  leave_main(item)
end
local function note_if_closed(item, record)
  local _, answered = used_tickets(record)
  if record.closed == 1 and answered == record.granted then
    closed_items[#closed_items + 1] = pack("<I4", item)
  end
end
-- Somebody passed the item on, and everybody else of the pool has spoken: its free tickets are for nobody. Former holders
-- who may try again count as people to come, and so does who holds a lease. A pool with fewer people than an item's
-- tickets waits for more of them, whether somebody passed the item on or not.
local function close_if_nobody_is_left(item, record)
  if record.closed == 1 or record.declines == 0 or record.reserved > 0 or meta.people < R then
    return
  end
  local spoken = 0
  for _, slot in ipairs(record.slots) do
    if slot[2] == ANSWERED or slot[2] == DECLINED then
      spoken = spoken + 1
    elseif slot[2] == LEASED then
      return
    end
  end
  if spoken >= meta.people then
    close(item, record)
    requeue(item, record, false)
    note_if_closed(item, record)
  end
end
-- Log them; true if somebody must be woken.
local function emit_closed()
  if #closed_items == 0 then
    return false
  end
  emit(8, 1, bin(concat(closed_items)))
  return soil()
end

-- The ticket of a lease came back to whom it belongs.
local named_added, named_removed = {}, {}
local function named_member(worker, item)
  return pack(">I4I4", worker, item)
end
local function give_back(item, record, slot, state)
  if slot[3] % 2 == 1 then
    -- A named ticket goes back to its worker, at once: nobody else waits for it.
    slot[2] = state + 1
    record.reserved = record.reserved + 1
    named_added[#named_added + 1] = named_member(slot[1], item)
    keep(item, record)
  else
    slot[2] = state
    if record.closed == 1 then
      record.granted = record.granted - 1
      note_if_closed(item, record)
    end
    requeue(item, record, false)
  end
end

-- Move the head past items whose tickets of the main log are all taken, as far as the cursor limit.
local function advance_head(limit)
  local head = meta.head
  while head < limit do
    local chunk = chunk_of(head)
    if chunk and byte(chunk, C + head % C + 1) < R then
      break
    end
    head = head + 1
  end
  meta.head = head
end

-- Write all records. Chunks in which nothing plain is left are dropped once the head is past them.
local function commit_records()
  for item in pairs(record_removed) do
    call("HDEL", OVERFLOW, item)
    meta.reopened = meta.reopened - call("ZREM", REOPENED, item)
  end
  for item in pairs(record_changed) do
    local record = records[item]
    if record then
      local out = { char(record.granted, record.reserved, record.declines, record.closed) }
      for _, slot in ipairs(record.slots) do
        out[#out + 1] = pack("<I4I4", slot[1] * 8 + slot[2], slot[3])
      end
      call("HSET", OVERFLOW, item, concat(out))
    end
  end
  -- In order of items, so that the order of the reopened log does not depend on the hash table of Lua.
  local items = {}
  for item in pairs(requeued) do
    items[#items + 1] = item
  end
  table.sort(items)
  for _, item in ipairs(items) do
    local record = records[item]
    local returned = record and returned_tickets(item, record) or 0
    if returned > 0 then
      local there = not requeued[item] and call("ZSCORE", REOPENED, item)
      if not there then
        meta.reopenings = meta.reopenings + 1
        meta.reopened = meta.reopened + call("ZADD", REOPENED, meta.reopenings, item)
        ring()
      end
    else
      meta.reopened = meta.reopened - call("ZREM", REOPENED, item)
    end
  end
  for _, member in ipairs(named_removed) do
    meta.named = meta.named - call("ZREM", NAMED, member)
  end
  for _, member in ipairs(named_added) do
    meta.named = meta.named + call("ZADD", NAMED, 0, member)
    ring()
  end
  for number, chunk in pairs(chunks) do
    if chunk and (number + 1) * C <= meta.head and not string.find(sub(chunk, 1, C), PLAIN, 1, true) then
      call("HDEL", CHUNKS, number)
    elseif chunk_changed[number] then
      call("HSET", CHUNKS, number, chunk)
    end
  end
end
