-- The end of a connection that has a name. KEYS name; ARGV owner, reservation (0 frees)
local held = redis.call('GET', KEYS[1])
if not held or held:sub(2, 7) ~= ARGV[1]:sub(1, 6) or held:sub(10, 15) ~= ARGV[1]:sub(9, 14) then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '0' and #held > 21 then redis.call('SET', KEYS[1], 'K' .. held:sub(2), 'PX', ARGV[2]) end
return 1
