-- Bind a session id to a key: where there is no entry, or the one that is there is the stale one that was read.
-- Returns {1, row} if this request did it, now or before; {0, row} if somebody else was faster; {-1} if the id was
-- bound before and is no more.
--
-- A request that comes again, or late, does nothing: its answer is kept for a while, and an id that has lost or was
-- unbound is spent for longer than any network holds back a request.
--
-- KEYS: 1 entry, 2 id, 3 id of the stale entry (that of 2 if there is none), 4 index of all keys, 5 highest version
--       deleted, 6 answer to this request
-- ARGV: 1 session key, 2 session id, 3 now, 4 id and 5 last activity of the stale entry (both empty if there is none),
--       6 ms to keep the answer, 7 ms to keep a spent id
local done = redis.call('GET', KEYS[6])
if done then
  return {1, cmsgpack.unpack(done)}
end
local row = redis.call('HMGET', KEYS[1], 'id', 'version', 'fields', 'created_at', 'updated_at', 'last_activity_at')
local version = tonumber(row[2])
local now = ARGV[3]
if redis.call('EXISTS', KEYS[1]) == 0 then
  if redis.call('EXISTS', KEYS[2]) == 1 then
    return {-1}
  end
  version = tonumber(redis.call('GET', KEYS[5]) or 0) + 1
  row = {ARGV[2], string.format('%.0f', version), '{}', now, now, now}
elseif row[1] == ARGV[2] then
  return {1, row}
elseif ARGV[4] ~= '' and row[1] == ARGV[4] and tonumber(row[6]) == tonumber(ARGV[5]) and version and row[3] then
  local updated = row[5]
  if not tonumber(updated) or tonumber(updated) < tonumber(now) then
    updated = now
  end
  row = {ARGV[2], string.format('%.0f', version + 1), row[3], now, updated, now}
  redis.call('SET', KEYS[3], '', 'PX', ARGV[7])
else
  redis.call('SET', KEYS[2], '', 'PX', ARGV[7])
  return {0, row}
end
redis.call('HSET', KEYS[1], 'id', row[1], 'version', row[2], 'fields', row[3], 'created_at', row[4],
  'updated_at', row[5], 'last_activity_at', row[6])
redis.call('SET', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[4], 0, ARGV[1])
redis.call('SET', KEYS[6], cmsgpack.pack(row), 'PX', ARGV[6])
return {1, row}
