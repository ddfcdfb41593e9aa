-- What each step begins with: the names of what is kept of one lane, the clock, who has the lane as it is written.
--
-- KEYS, six for each lane that is stepped, all of one hash slot:
--   1 lane     hash: s (who has it, and whether it owes, or is paused), m (some stand together), and for each ticket
--              p<ticket> (its place) and a<ticket> (until when it is alive, and its lease)
--   2 line     sorted set: tickets by number
--   3 bucket   hash, never expires: t (the highest token), r (until when nothing is granted, and for how long: data
--              were lost)
--   4 index    sorted set: keys of the lanes of the bucket, by when they expire
--   5 over     sorted set: tickets that have left or were sent away, by when; they never come again
--   6 fates    hash: how the wait of a ticket ended
-- ARGV: 1 worker that asks, 2 its lease in microseconds, 3 what the channels of workers begin with
--
-- All times are microseconds of the server's clock. Notes are published at once: a script happens as a whole.
local KEEP_DEBTS = 30 * 86400 * 1000 -- ms: what is owed, and that a lane is paused
local THIRTY_DAYS = '2592000000'

local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local worker, lease, channel = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local KEEP_LANES = math.max(10 * lease / 1000, 120000) -- ms
local KEEP_OVER = math.max(30000000, 2 * lease)

local key, LANE, LINE, BUCKET, INDEX, OVER, FATES
local lane, mixed, token, recovers -- of the lane that is stepped, as its rows are now

-- Numbers are given to commands as texts: made into one by the server each takes as long as a command. `%d` is faster,
-- but has 32 bits on some machines.
local INTEGER = string.format('%d', 2 ^ 53) == '9007199254740992' and '%d' or '%.0f'

local function text(number)
  return string.format(INTEGER, number)
end

-- Begin with a lane, whose keys are those from `first` on.
local function name_keys(first, name)
  key = name
  LANE, LINE, BUCKET = KEYS[first], KEYS[first + 1], KEYS[first + 2]
  INDEX, OVER, FATES = KEYS[first + 3], KEYS[first + 4], KEYS[first + 5]
end

local function a_lease_from_now()
  return text(now + lease) .. ' ' .. ARGV[2]
end

local function a_holder(ticket, of, with, owes, dropped, lends)
  return {
    ticket = ticket, worker = of, token = with, since = now, owes = owes, asked = false, by = '', grace = '0',
    rollback = false, dropped = dropped, lends = lends,
  }
end

local function packed_lane(kept)
  local held, owes, paused = kept.held, kept.owes or false, kept.paused or false
  if not held then
    return cmsgpack.pack(owes, paused)
  end
  return cmsgpack.pack(
    owes, paused, held.ticket, held.worker, held.token, held.since, held.owes, held.asked, held.by, held.grace,
    held.rollback, held.dropped, held.lends
  )
end

local function lane_in(packed)
  local owes, paused, ticket, of, with, since, takes_back, asked, by, grace, rollback, dropped, lends =
    cmsgpack.unpack(packed)
  if not ticket then
    return { owes = owes, paused = paused }
  end
  return {
    owes = owes, paused = paused,
    held = {
      ticket = ticket, worker = of, token = with, since = since, owes = takes_back, asked = asked, by = by,
      grace = grace, rollback = rollback, dropped = dropped, lends = lends,
    },
  }
end

-- Let a lane that lives stand in the index, and go after so many milliseconds without a step.
local function keep_lane(expires)
  call('PEXPIRE', LANE, text(expires))
  call('ZADD', INDEX, text(now + 1000 * expires), key)
  call('PEXPIRE', INDEX, THIRTY_DAYS)
end

-- Remember that a ticket is over, so that no request that was held up on its way brings it back.
local function mark(ticket)
  call('ZADD', OVER, text(now), ticket)
  local old = call('ZRANGEBYSCORE', OVER, '0', text(now - KEEP_OVER), 'LIMIT', '0', '8')
  if old[1] then
    call('ZREM', OVER, unpack(old))
    call('HDEL', FATES, unpack(old))
  end
  call('PEXPIRE', OVER, text(KEEP_OVER / 1000))
end
