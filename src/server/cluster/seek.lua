-- A dispatch to wherever a name is online. KEYS name, nodes; ARGV its head and tail, between which the connection goes
local held = redis.call('GET', KEYS[1])
if not held or held:byte() ~= 79 then return false end
local t = redis.call('TIME')
if tonumber(redis.call('ZSCORE', KEYS[2], held:sub(2, 9)) or 0) <= t[1] * 1000 + t[2] / 1000 then return false end
if redis.call('PUBLISH', 'lk1:to:' .. held:sub(2, 7), ARGV[1] .. held:sub(10, 15) .. ARGV[2]) == 0 then return false end
return held:sub(2, 15)
