--- edit_workforce: replace a workforce's allowlist, and make the workforce if there is none.
--
-- Guarantee: list and version change in one step; each list has a version of its own, and the newer the higher.
-- KEYS: 1 workforce
-- ARGV: 1 allowlist (JSON list of CIDR ranges)
-- Reply: {version}

redis.call("HSET", KEYS[1], "allow", ARGV[1])
return { redis.call("HINCRBY", KEYS[1], "version", 1) }
