-- Come to a lane.
--
-- ARGV: 4 key, 5 ticket, 6 room (-1 for any); and for what only waits, nothing more, else
--       7 over, 8 grace, 9 tag, 10 window in microseconds, 11 most (-1 for any), 12 overflow, 13 whether it is a message
--       to steer with, 14 whom it is for, 15 payload, 16 number (0 for none)
-- Returns the token of a grant that says no more; of one that waits how many are ahead, its number and after how many
-- microseconds the lane is to be looked at again; else the answer, in a list.
local ticket, room, take, tag, most = ARGV[5], tonumber(ARGV[6]), ARGV[7] or '', ARGV[9] or '', tonumber(ARGV[11] or -1)
local window, payload, wanted = tonumber(ARGV[10] or 0), ARGV[15] or '', tonumber(ARGV[16] or 0)

local function standing()
  local held = lane and lane.held
  if held and held.ticket == ticket then
    return granted(held)
  end
  local place = place_of(ticket)
  return place and { ahead_of(place.run) + (held and 1 or 0), place.number }
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
  return { ahead_of(place.run) + 1, number }
end

enter(1, ARGV[4])
local answer = come()
local again = finish()
if answer[1] == 'granted' and answer[5] == '' and #answer == 6 then
  return lane.held.token
elseif type(answer[1]) == 'number' then
  return { answer[1], answer[2], again }
end
return { answer }
