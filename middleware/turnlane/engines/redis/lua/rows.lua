-- The rows of a lane, and what is told of it.

local LENT, TOLD = 1, 2
local A_MOMENT = 100
local LONGEST_NOTE = 65536

-- Notes and answers

local function tell(to, note)
  local parts = {}
  for i, part in ipairs(note) do
    parts[i] = #part .. ':' .. part
  end
  local letter = table.concat(parts)
  if #letter > LONGEST_NOTE and note[1] ~= 'offered' then
    local look = { 'look', note[2], note[3] }
    for i, part in ipairs(look) do
      look[i] = #part .. ':' .. part
    end
    letter = table.concat(look)
  end
  call('PUBLISH', channel .. to, letter)
end

local function full(ahead, together)
  return { 'full', text(ahead), together and '1' or '' }
end

local function over_note(ticket, how, into, payload)
  return { 'over', key, ticket, how, into, payload }
end

-- Rows

local function place_in(ticket, packed)
  if not packed then
    return nil
  end
  local of, number, run, tag, closes, since, payload, dropped, lent = cmsgpack.unpack(packed)
  return {
    ticket = ticket, worker = of, number = number, run = run, tag = tag, closes = closes, since = since,
    payload = payload, dropped = dropped, lent = lent,
  }
end

local function place_of(ticket)
  return place_in(ticket, call('HGET', LANE, 'p' .. ticket))
end

local function place_at(index)
  local found = call('ZRANGE', LINE, index, index)
  return found[1] and place_of(found[1])
end

local function all_places()
  local found = {}
  for i, ticket in ipairs(call('ZRANGE', LINE, '0', '-1')) do
    found[i] = place_of(ticket)
  end
  return found
end

local function places_with(one)
  if one.tag == '' then
    return { one }
  end
  local found = {}
  for _, place in ipairs(all_places()) do
    if place.run == one.run then
      found[#found + 1] = place
    end
  end
  return found
end

local function ahead_of(run)
  if not mixed then
    return call('ZCOUNT', LINE, '-inf', run and '(' .. text(run) or '+inf')
  end
  local runs, count = {}, 0
  for _, place in ipairs(all_places()) do
    if place.lent == 0 and (not run or place.run < run) and not runs[place.run] then
      runs[place.run], count = true, count + 1
    end
  end
  return count
end

local function put(place)
  local row = cmsgpack.pack(
    place.worker, place.number, place.run, place.tag, place.closes, place.since, place.payload, place.dropped, place.lent
  )
  call('HSET', LANE, 'p' .. place.ticket, row)
  call('ZADD', LINE, text(place.number), place.ticket)
  if (place.tag ~= '' or place.lent ~= 0) and not mixed then
    mixed = true
    call('HSET', LANE, 'm', '1')
  end
end

local function drop(ticket, stays_alive)
  call('ZREM', LINE, ticket)
  call('HDEL', LANE, 'p' .. ticket)
  if not stays_alive then
    call('HDEL', LANE, 'a' .. ticket)
  end
end

local function put_lane(changed)
  if changed and not (changed.held or changed.owes or changed.paused) and call('EXISTS', LINE) == 0 then
    changed = nil
  end
  lane = changed
  if not changed then
    mixed = nil
    call('HDEL', LANE, 's', 'm')
    return
  end
  call('HSET', LANE, 's', packed_lane(changed))
end

-- A ticket that is alive stays so for a lease.
local function touch(ticket)
  call('HSET', LANE, 'a' .. ticket, a_lease_from_now())
end

-- Return until when something lasts that was to last so long; less where the clock has gone back since.
local function until_in(kept)
  local till, lasts = string.match(kept or '', '^(%d+) (%d+)$')
  if not till then
    return 0
  end
  local most = now + tonumber(lasts)
  return math.min(tonumber(till), most), tonumber(till) > most
end

local function touch_if_known(ticket)
  if call('HEXISTS', LANE, 'a' .. ticket) == 1 then
    touch(ticket)
  end
end

local function alive_until(ticket)
  local till, was_later = until_in(call('HGET', LANE, 'a' .. ticket))
  if was_later then
    call('HSET', LANE, 'a' .. ticket, text(till) .. ' ' .. text(till - now))
  end
  return till
end

local function is_alive(ticket)
  return alive_until(ticket) > now
end

local function is_over(ticket)
  return call('ZSCORE', OVER, ticket) and true or false
end

local function fate(ticket)
  local kept = call('HGET', FATES, ticket)
  if not kept then
    return nil
  end
  local row = cmsgpack.unpack(kept)
  return { 'over', row[1], ticket, row[2], row[3], row[4] }
end

local function end_wait(place, how, into, payload)
  drop(place.ticket)
  mark(place.ticket)
  call('HSET', FATES, place.ticket, cmsgpack.pack({ key, how, into, payload }))
  call('PEXPIRE', FATES, text(KEEP_OVER / 1000))
  tell(place.worker, over_note(place.ticket, how, into, payload))
end

-- Grant nothing for a lease: whoever has a lane says so within it.
local function recover()
  recovers = now + lease
  call('HSET', BUCKET, 't', text(token), 'r', text(recovers) .. ' ' .. text(lease))
  call('PUBLISH', channel, '')
end

-- Begin with a lane, whose keys are those from `first` on.
local function enter(first, name)
  name_keys(first, name)
  local kept = call('HMGET', BUCKET, 't', 'r')
  local was_later
  token = tonumber(kept[1] or 0)
  recovers, was_later = until_in(kept[2])
  if not kept[1] or was_later then
    recover() -- every worker sees to it that it is there before it asks for a step
  end
  if recovers > 0 and recovers <= now then
    call('HSET', BUCKET, 'r', '')
  end
  local row = call('HMGET', LANE, 's', 'm')
  lane, mixed = row[1] and lane_in(row[1]) or nil, row[2] and true or nil
  if not lane and recovers > now then
    lane = {}
  end
end

-- End with a lane; return after how many microseconds it is to be looked at again, -1 for never.
local function finish()
  if not lane then
    call('ZREM', INDEX, key)
    return -1
  end
  local held = lane.held
  local owes = lane.paused or lane.owes or (held and (held.owes or held.rollback))
  local expires = owes and KEEP_DEBTS or KEEP_LANES
  call('PEXPIRE', LINE, text(expires))
  keep_lane(expires)
  if held then
    return math.max(alive_until(held.ticket) - now, 0)
  elseif recovers > now then
    return recovers - now
  elseif lane.paused then
    return -1
  end
  local first = place_at(0)
  local run = first and places_with(first)
  return run and math.max(run[#run].closes - now, 0) or -1
end
