-- Let a lane go for which nobody waits, and that keeps nothing; whatever else there may be is left to what follows. It is
-- written out, as in `acquire_idle.lua`.
--
-- KEYS, ARGV as for `leave.lua`
-- Returns -1: the lane is not to be looked at again.
local call = redis.call
local kept = ARGV[6] == '' and call('HMGET', KEYS[1], 's', 'm')
if kept and kept[1] and not kept[2] and call('EXISTS', KEYS[2]) == 0 then
  local owes, paused, ticket, _, _, _, _, _, _, _, rollback = cmsgpack.unpack(kept[1])
  local last = ticket == ARGV[5] and not (owes or paused or rollback) and call('HMGET', KEYS[3], 't', 'r')
  if last and last[1] and (not last[2] or last[2] == '') then -- else data were lost
    local format, clock, OVER, keep = string.format, call('TIME'), KEYS[5], 2 * ARGV[2]
    local integer = format('%d', 2 ^ 53) == '9007199254740992' and '%d' or '%.0f'
    local now = clock[1] * 1000000 + clock[2]
    if keep < 30000000 then
      keep = 30000000
    end
    call('HDEL', KEYS[1], 's', 'a' .. ticket)
    call('ZADD', OVER, format(integer, now), ticket)
    call('PEXPIRE', OVER, format(integer, keep / 1000))
    call('ZREM', KEYS[4], ARGV[4])
    if now % 8 == 0 then
      local old = call('ZRANGEBYSCORE', OVER, '0', format(integer, now - keep), 'LIMIT', '0', '64')
      if old[1] then
        call('ZREM', OVER, unpack(old))
        call('HDEL', KEYS[6], unpack(old))
      end
      call('ZREMRANGEBYSCORE', KEYS[4], '-inf', format(integer, now)) -- lanes of the dead that nobody came to again
    end
    return -1
  end
end
