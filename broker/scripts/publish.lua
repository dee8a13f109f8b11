--- publish: new versions of the labels of items that have ended.
--
-- Guarantee: in the results stream and in the event log in the same step. The caller keeps versions rising.
-- KEYS: those of lib/shard.lua.
-- ARGV: as settle.lua
-- Reply: {now_ms}
--@include shard

local keep_results = tonumber(ARGV[2])
local labels = {}
for index = 3, #ARGV, 5 do
  labels[#labels + 1] = array(5)
    .. int(tonumber(ARGV[index]))
    .. int(tonumber(ARGV[index + 1]))
    .. int(tonumber(ARGV[index + 2]))
    .. int(ARGV[index + 3])
    .. bin(ARGV[index + 4])
  call("XADD", RESULTS, "MAXLEN", "~", keep_results, "*", "item", ARGV[index], "end", ARGV[index + 1],
    "version", ARGV[index + 2], "reason", ARGV[index + 3], "label", ARGV[index + 4])
end
emit(11, 1, array(#labels) .. concat(labels))
commit()
return { now }
