-- Return the keys of all lanes that live.
--
-- KEYS: the indexes of buckets
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local found = {}
for _, index in ipairs(KEYS) do
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', index, now, '+inf')) do
    found[#found + 1] = key
  end
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now - 1)
end
return found
