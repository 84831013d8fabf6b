-- A name for a connection, unless somebody holds it with another token.
-- KEYS name, nodes, grace; ARGV owner, token, ttl ms, reservation ms, grace ms. Returns since when it is theirs (6 bytes)
-- and whether somebody who is online gives way (a byte), or 0: taken, or 2: ask again.
-- While the grace lasts somebody may hold the name with a token whose node has not told of it yet: then nobody else
-- takes it, be it unknown or be somebody known to have had it without one. A grace that ends later than any is set for
-- is of a clock that was set back since.
-- A full database refuses a script's first write if that may take memory, and then no other: a record is deleted before
-- it is written anew, so that only names which it does not know are refused.
local now, since, replaced = clock(), nil, '\0'
if not held or (held:sub(22) == '' and not is_own()) then
  local grace = redis.call('GET', KEYS[3])
  if not grace or tonumber(grace) > now + 4 * ARGV[5] then
    grace = now + ARGV[5]
    redis.call('SET', KEYS[3], grace)
  end
  if tonumber(grace) > now then return 2 end
end
if held then
  local token, online, kept = holder(now, ARGV[4])
  if kept and token ~= '' then
    if token ~= ARGV[2] then return 0 end
    since = held:sub(16, 21)
  end
  if online and not is_own() then
    replace()
    replaced = '\1'
  end
end
since = since or struct.pack('>I6', now)
if held then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], 'O' .. ARGV[1] .. since .. ARGV[2], 'PX', ARGV[3])
return since .. replaced
