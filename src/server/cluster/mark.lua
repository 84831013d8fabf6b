-- The sweep: a name that a connection has already. KEYS name, nodes; ARGV owner, token, since (6), ttl, reservation. 1: it is ours (again), 0: it is another's.
local held = redis.call('GET', KEYS[1])
if held and not (held:sub(2, 7) == ARGV[1]:sub(1, 6) and held:sub(10, 15) == ARGV[1]:sub(9, 14)) then
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  local token, online, kept = held:sub(22), held:byte() == 79, true
  if online then
    local lease = tonumber(redis.call('ZSCORE', KEYS[2], held:sub(2, 9)) or 0)
    online = lease > now
    kept = online or (token ~= '' and lease + ARGV[5] > now)
  end
  if kept and (online or token ~= ARGV[2]) and (ARGV[2] == '' or token == ARGV[2] or (token ~= '' and held:sub(16, 21) <= ARGV[3])) then
    return 0
  end
  if online then redis.call('PUBLISH', 'lk1:to:' .. held:sub(2, 7), '\0\0\0\7R' .. held:sub(10, 15)) end
end
-- A full database has to know it all the same (see the claim).
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], 'O' .. ARGV[1] .. ARGV[3] .. ARGV[2], 'PX', ARGV[4])
return 1
