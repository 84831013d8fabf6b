-- The sweep: a name that a connection has already.
-- KEYS name, nodes; ARGV owner, token, since (6), ttl ms, reservation ms. 1: it is ours (again), 0: it is another's.
if held and not is_own() then
  local token, online, kept = holder(clock(), ARGV[5])
  if kept and (online or token ~= ARGV[2]) and (ARGV[2] == '' or token == ARGV[2] or (token ~= '' and held:sub(16, 21) <= ARGV[3])) then
    return 0
  end
  if online then replace() end
end
-- A full database has to know it all the same (see the claim).
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], 'O' .. ARGV[1] .. ARGV[3] .. ARGV[2], 'PX', ARGV[4])
return 1
