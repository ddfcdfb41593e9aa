-- Return the key bound to a session id and its row, or nothing.
-- KEYS: 1 id
-- ARGV: 1 session id, 2 beginning of the names of all entries
local key = redis.call('GET', KEYS[1])
if not key or key == '' then
  return false
end
local row = redis.call('HMGET', ARGV[2] .. key, 'id', 'version', 'fields', 'created_at', 'updated_at', 'last_activity_at')
if row[1] ~= ARGV[1] then
  return false
end
return {key, row}
