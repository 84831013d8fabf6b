-- The lease of a node. KEYS nodes, grace;
-- ARGV lease ms, keep ms, extend grace ms (0: no), grace ms where the database knows of none, members...
-- Returns whether the lease of the last of these had ended (1) or was not there (2), then the members whose lease holds.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local before = 0
for i = 5, #ARGV do
  local lease = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if not lease then before = 2 elseif tonumber(lease) <= now then before = 1 else before = 0 end
end
-- This comes first, since it takes no memory: after it a full database lets a script do the rest.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
for i = 5, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i]) end
local grace = redis.call('GET', KEYS[2])
if not grace or tonumber(grace) > now + 4 * ARGV[4] then
  redis.call('SET', KEYS[2], now + math.max(tonumber(ARGV[3]), tonumber(ARGV[4])))
elseif ARGV[3] ~= '0' and tonumber(grace) < now + ARGV[3] then
  redis.call('SET', KEYS[2], now + ARGV[3])
end
local alive = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')
table.insert(alive, 1, before)
return alive
