-- What the steps of one lane have in common, as `turnlane.engines.lane.Steps` says it.

local function granted(held)
  local note = { 'granted', key, held.ticket, text(held.token), held.owes and '1' or '', '0' }
  if held.lends then
    local count = 0
    for _, place in ipairs(all_places()) do
      if place.lent ~= 0 then
        count = count + 1
        note[#note + 1] = place.ticket
        note[#note + 1] = place.payload
      end
    end
    note[6] = text(count)
  end
  for _, message in ipairs(held.dropped) do
    note[#note + 1] = message
  end
  return note
end

local function give(ticket, to, owes, dropped, lends)
  token = math.max(token + 1, now)
  call('HSET', BUCKET, 't', text(token))
  put_lane({ held = a_holder(ticket, to, token, owes or false, dropped, lends) })
  return granted(lane.held)
end

-- Return the lane without who has it; those who were part of its turn stand where they stood.
local function without_holder(owes, scatter)
  local held = lane.held
  call('HDEL', LANE, 'a' .. held.ticket)
  for _, place in ipairs(held.lends and all_places() or {}) do
    if place.lent ~= 0 then
      place.lent = 0
      if scatter then
        place.tag, place.run = '', place.number
      end
      put(place)
    end
  end
  return { owes = owes or held.rollback or lane.owes, paused = lane.paused }
end

local function bury()
  if lane and lane.held and not is_alive(lane.held.ticket) then
    put_lane(without_holder(lane.held.owes, false))
  end
end

-- Keep the lane as it is now, but grant it, if it is free, to who is first and alive.
local function promote_from(changed)
  if not changed then
    return
  elseif changed.held or changed.paused or recovers > now then
    put_lane(changed)
    return
  end
  while true do
    local first = place_at(0)
    if not first then
      break
    end
    local run, dropped = {}, {}
    for _, place in ipairs(places_with(first)) do
      if is_alive(place.ticket) then
        run[#run + 1] = place
      else
        drop(place.ticket)
      end
    end
    local newest = run[#run]
    if newest and newest.closes > now + A_MOMENT and newest.since <= now then
      break
    elseif newest then
      drop(newest.ticket, true)
      for _, place in ipairs(run) do
        if place ~= newest then
          place.lent = LENT
          put(place)
        end
        for _, message in ipairs(place.dropped) do
          dropped[#dropped + 1] = message
        end
      end
      tell(newest.worker, give(newest.ticket, newest.worker, changed.owes, dropped, #run > 1))
      return
    end
  end
  put_lane(changed)
end

local function promote()
  bury()
  promote_from(lane)
end

local function ask_to_stop(by, grace, rollback)
  local held = lane.held
  held.asked, held.by, held.grace, held.rollback = true, by, grace, held.rollback or rollback
  put_lane(lane)
  tell(held.worker, { 'interrupted', key, held.ticket, by, grace, rollback and '1' or '' })
end
