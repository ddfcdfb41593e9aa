-- See to it that there is a record of each bucket, so that its loss is found. Where there is none although workers
-- listen, the server has lost what it knew: nothing is granted for a lease, until those who have a lane have said so.
-- Where the server has begun a moment ago, or the user may not ask since when it runs, they may not listen yet, and are
-- given a moment.
--
-- KEYS: buckets
-- ARGV: 1 lease in microseconds, 2 channel of all workers, to which the one that opens does not listen yet
-- Returns whether it has lost what it knew.
local A_MOMENT = 3000000
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local lease = tonumber(ARGV[1])
local lost, wait
for _, bucket in ipairs(KEYS) do
  if redis.call('HEXISTS', bucket, 't') == 0 then
    if lost == nil then
      local info = redis.pcall('INFO', 'server')
      local uptime = type(info) == 'string' and tonumber(string.match(info, 'uptime_in_seconds:(%d+)') or '') or 0
      lost = redis.call('PUBLISH', ARGV[2], '') > 0
      wait = lost and lease or (uptime * 1000000 < lease and math.min(lease, A_MOMENT)) or 0
    end
    redis.call('HSET', bucket, 't', '0', 'r', wait > 0 and string.format('%.0f %.0f', now + wait, wait) or '')
  end
end
return lost and 1 or 0
