-- The head of the scripts that give a name to a connection: who holds it, and for how long.
-- KEYS name, nodes; ARGV owner (node 6, incarnation 2, connection 6), token (0 or 16 bytes).
-- A record is O (online) or K (kept for its owner), the owner, since when (6), and the token.
local held = redis.call('GET', KEYS[1])

-- Whether the record is of the connection that asks, in whatever incarnation of its node.
local function is_own()
  return held:sub(2, 7) == ARGV[1]:sub(1, 6) and held:sub(10, 15) == ARGV[1]:sub(9, 14)
end

-- The time in ms.
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- The token of the record, whether its connection is online, and whether the name is kept for it at all.
local function holder(now, reservation)
  local token = held:sub(22)
  if held:byte() ~= 79 then return token, false, true end
  local lease = tonumber(redis.call('ZSCORE', KEYS[2], held:sub(2, 9)) or 0)
  return token, lease > now, lease > now or (token ~= '' and lease + reservation > now)
end

-- Tells the connection of the record that it has to give way.
local function replace()
  redis.call('PUBLISH', 'lk1:to:' .. held:sub(2, 7), '\0\0\0\7R' .. held:sub(10, 15))
end

