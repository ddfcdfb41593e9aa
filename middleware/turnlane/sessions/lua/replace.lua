-- Put a changed entry in the place of the one it was made of. Returns 1 if this request did it, now or before; 0 if
-- the entry is another one by now. No state of an entry comes twice, so a request that comes again, or late, does
-- nothing.
-- KEYS: 1 entry, 2 its id, 3 the id it gets, 4 answer to this request
-- ARGV: 1 session key, 2 id, 3 version and 4 last activity of the entry that was read, 5 to 10 the new row: id,
--       version, fields, created, updated, last activity, 11 ms to keep the answer, 12 ms to keep a spent id
if redis.call('EXISTS', KEYS[4]) == 1 then
  return 1
end
local row = redis.call('HMGET', KEYS[1], 'id', 'version', 'last_activity_at')
if row[1] ~= ARGV[2] or row[2] ~= ARGV[3] or tonumber(row[3]) ~= tonumber(ARGV[4]) then
  return 0
end
redis.call('HSET', KEYS[1], 'id', ARGV[5], 'version', ARGV[6], 'fields', ARGV[7], 'created_at', ARGV[8],
  'updated_at', ARGV[9], 'last_activity_at', ARGV[10])
if ARGV[5] ~= ARGV[2] then
  redis.call('SET', KEYS[2], '', 'PX', ARGV[12])
  redis.call('SET', KEYS[3], ARGV[1])
end
redis.call('SET', KEYS[4], '1', 'PX', ARGV[11])
return 1
