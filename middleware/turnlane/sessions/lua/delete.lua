-- Remove an entry, readable or not, if it is the one that was read. Returns {1} if this request did it, now or before;
-- {0} if there is none; {2, id, version} if it is another one by now. No id and version come twice, so a request that
-- comes again, or late, does nothing.
-- KEYS: 1 entry, 2 its id, 3 index of all keys, 4 highest version deleted, 5 answer to this request
-- ARGV: 1 session key, 2 id and 3 version of the entry that was read, 4 ms to keep the answer, 5 ms to keep a spent id
if redis.call('EXISTS', KEYS[5]) == 1 then
  return {1}
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {0}
end
local row = {false, false}
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  row = redis.call('HMGET', KEYS[1], 'id', 'version')
end
local id, version = row[1] or '', row[2] or ''
if id ~= ARGV[2] or version ~= ARGV[3] then
  return {2, id, version}
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
if id ~= '' then
  redis.call('SET', KEYS[2], '', 'PX', ARGV[5])
end
local floor = tonumber(redis.call('GET', KEYS[4]) or 0)
if tonumber(version) and tonumber(version) > floor then
  redis.call('SET', KEYS[4], version)
end
redis.call('SET', KEYS[5], '1', 'PX', ARGV[4])
return {1}
