-- The second place of a session. KEYS session; ARGV joiner, ttl. The value is W (waits) or F (full), then the creator's name.
local s = redis.call('GET', KEYS[1])
if not s then return 0 end
if s:byte() == 70 then return 1 end
if s:sub(2) == ARGV[1] then return 2 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], 'F' .. s:sub(2), 'PX', ARGV[2])
return s:sub(2)
