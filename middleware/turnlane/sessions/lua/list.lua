-- Return keys, in the order of their bytes, and their rows.
-- KEYS: 1 index of all keys
-- ARGV: 1 from and 2 to, as ZRANGEBYLEX takes them, 3 at most so many, 4 beginning of the names of all entries
local found = {}
for _, key in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])) do
  local row = redis.call('HMGET', ARGV[4] .. key, 'id', 'version', 'fields', 'created_at', 'updated_at', 'last_activity_at')
  found[#found + 1] = {key, row}
end
return found
