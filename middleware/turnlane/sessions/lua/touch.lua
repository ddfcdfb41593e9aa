-- Set the last activity of an entry if that is later. A request that comes again does nothing.
-- KEYS: 1 entry, 2 answer to this request
-- ARGV: 1 when, 2 ms to keep the answer
if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[2]) then
  local at = tonumber(redis.call('HGET', KEYS[1], 'last_activity_at') or nil)
  if at and at < tonumber(ARGV[1]) then
    redis.call('HSET', KEYS[1], 'last_activity_at', ARGV[1])
  end
end
return 1
