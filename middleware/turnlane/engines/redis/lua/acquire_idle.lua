-- Grant a lane that is idle, which is most of what is ever asked; whatever else there may be is left to what follows. It
-- is written out, since a function that is made, and a number that a command makes a text of, take as long as a command.
--
-- KEYS, ARGV as for `acquire.lua`
-- Returns the token.
local call = redis.call
if call('EXISTS', KEYS[1], KEYS[2]) == 0 and not call('ZSCORE', KEYS[5], ARGV[5]) then
  local last = call('HMGET', KEYS[3], 't', 'r')
  if last[1] and (not last[2] or last[2] == '') then -- else data were lost
    local format, clock, lease = string.format, call('TIME'), ARGV[2]
    local integer = format('%d', 2 ^ 53) == '9007199254740992' and '%d' or '%.0f'
    local now = clock[1] * 1000000 + clock[2]
    local token = last[1] + 1
    if token < now then
      token = now
    end
    local LANE, ticket, keep = KEYS[1], ARGV[5], lease / 100
    if keep < 120000 then
      keep = 120000
    end
    call('HSET', KEYS[3], 't', format(integer, token))
    local held = cmsgpack.pack(false, false, ticket, ARGV[1], token, now, false, false, '', '0', false, {}, false)
    call('HSET', LANE, 's', held, 'a' .. ticket, format(integer, now + lease) .. ' ' .. lease)
    call('PEXPIRE', LANE, format(integer, keep))
    call('ZADD', KEYS[4], format(integer, now + 1000 * keep), ARGV[4])
    call('PEXPIRE', KEYS[4], '2592000000')
    return token
  end
end
