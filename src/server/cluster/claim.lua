-- A name for a connection, unless somebody holds it with another token.
-- KEYS name, nodes, grace; ARGV owner (process 6, incarnation 2, connection 6), token (0 or 16 bytes), ttl ms,
-- reservation ms, grace ms. Returns since when it is theirs (6 bytes) and
-- whether somebody who is online gives way (a byte), or 0: taken, or 2: ask again.
-- While the grace lasts somebody may hold the name with a token whose node has not told of it yet: then nobody else
-- takes it, be it unknown or be somebody known to have had it without one. A grace that ends later than any is set for
-- is of a clock that was set back since.
-- A full database refuses a script's first write if that may take memory, and then no other: a record is deleted before
-- it is written anew, so that only names which it does not know are refused.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local held, since, replaced = redis.call('GET', KEYS[1]), nil, '\0'
if not held or (held:sub(22) == '' and not (held:sub(2, 7) == ARGV[1]:sub(1, 6) and held:sub(10, 15) == ARGV[1]:sub(9, 14))) then
  local grace = redis.call('GET', KEYS[3])
  if not grace or tonumber(grace) > now + 4 * ARGV[5] then
    grace = now + ARGV[5]
    redis.call('SET', KEYS[3], grace)
  end
  if tonumber(grace) > now then return 2 end
end
if held then
  local token, online, kept = held:sub(22), held:byte() == 79, true
  if online then
    local lease = tonumber(redis.call('ZSCORE', KEYS[2], held:sub(2, 9)) or 0)
    online = lease > now
    kept = online or (token ~= '' and lease + ARGV[4] > now)
  end
  if kept and token ~= '' then
    if token ~= ARGV[2] then return 0 end
    since = held:sub(16, 21)
  end
  if online and (held:sub(2, 7) ~= ARGV[1]:sub(1, 6) or held:sub(10, 15) ~= ARGV[1]:sub(9, 14)) then
    redis.call('PUBLISH', 'lk1:to:' .. held:sub(2, 7), '\0\0\0\7R' .. held:sub(10, 15))
    replaced = '\1'
  end
end
since = since or struct.pack('>I6', now)
if held then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], 'O' .. ARGV[1] .. since .. ARGV[2], 'PX', ARGV[3])
return since .. replaced
