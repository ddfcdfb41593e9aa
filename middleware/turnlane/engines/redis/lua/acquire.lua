-- Come to a lane.
--
-- ARGV: 4 key, 5 ticket, 6 room (-1 for any), 7 over, 8 grace, 9 tag, 10 window in microseconds, 11 most (-1 for any),
--       12 overflow, 13 whether it is a message to steer with, 14 whom it is for, 15 payload, 16 number (0 for none)
-- Returns the answer, and after how many microseconds the lane is to be looked at again.
local ticket, room, take, tag, most = ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[9], tonumber(ARGV[11])
local window, payload, wanted = tonumber(ARGV[10]), ARGV[15], tonumber(ARGV[16])

local function standing()
  local held = lane and lane.held
  if held and held.ticket == ticket then
    return granted(held)
  end
  local place = place_of(ticket)
  return place and { 'queued', text(ahead_of(place.run) + (held and 1 or 0)), text(place.number) }
end

local function take_over()
  for _, place in ipairs(all_places()) do
    if place.lent ~= TOLD then
      end_wait(place, 'superseded', ticket, '')
    end
  end
  if lane and lane.held then
    ask_to_stop(ticket, ARGV[8], take == 'rollback')
  elseif take == 'rollback' then
    put_lane({ owes = true, paused = lane and lane.paused })
  end
end

-- Stand with those at the end of the line; tell whether there is room.
local function join(place, last)
  local run = places_with(last)
  if most >= 0 and #run >= most then
    if ARGV[12] == 'refuse' then
      return false
    end
    local oldest = run[1]
    for _, message in ipairs(oldest.dropped) do
      place.dropped[#place.dropped + 1] = message
    end
    place.dropped[#place.dropped + 1] = oldest.payload
    end_wait(oldest, 'superseded', ticket, '')
  end
  place.run = last.run
  return true
end

local function refused(ahead, together)
  mark(ticket)
  return full(ahead, together)
end

local function come()
  if is_over(ticket) then
    return fate(ticket) or full(0)
  end
  touch_if_known(ticket)
  promote()
  local known = lane and standing()
  if known then
    return known
  end
  local last, held = place_at(-1), lane and lane.held
  if not last and not held and not (lane and lane.paused) and recovers <= now then
    touch(ticket)
    return give(ticket, worker, lane and lane.owes, {}, false)
  end
  local number = wanted > 0 and wanted or math.max(now, last and last.number + 1 or 0)
  local place = {
    ticket = ticket, worker = worker, number = number, run = number, tag = '', closes = now, since = now,
    payload = payload, dropped = {}, lent = 0,
  }
  if take ~= '' then
    take_over()
  elseif last and tag ~= '' and last.tag == tag and last.lent == 0 then
    if not join(place, last) then
      return refused(#places_with(last), true)
    end
  elseif room >= 0 and ahead_of() >= room then
    return refused(ahead_of() + (held and 1 or 0))
  end
  if tag ~= '' then
    local stand = 0
    if last and place.run == last.run then
      stand = #places_with(last)
    end
    place.tag, place.closes = tag, now + ((most >= 0 and stand + 1 >= most) and 0 or window)
  end
  touch(ticket)
  put(place)
  if not held then
    if not lane then
      lane = {}
    end
    promote_from(lane)
    return standing()
  end
  if ARGV[13] == '1' then
    tell(held.worker, { 'offered', key, held.ticket, ticket, ARGV[14], payload })
  end
  return { 'queued', text(ahead_of(place.run) + 1), text(number) }
end

enter(1, ARGV[4])
local answer = come()
return { answer, finish() }
