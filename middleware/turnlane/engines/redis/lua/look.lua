-- Look at lanes.
--
-- KEYS: six for each lane
-- ARGV: 4 and following: the keys of the lanes
-- Returns for each lane: who has it and for how many microseconds (empty and 0 for nobody), whether it is paused, and
-- the tickets in line, each with how long it has waited; or nothing for one that is idle. Of the tickets of a worker that
-- has died nobody need have taken notice yet: those whose lease has ended are left out.
local found = {}
for i = 4, #ARGV do
  local first = 6 * (i - 4) + 1
  LANE, LINE = KEYS[first], KEYS[first + 1]
  local packed, view = call('HGET', LANE, 's'), {}
  local waiting = all_places()
  if packed or waiting[1] then
    local kept = packed and lane_in(packed) or {}
    local held = kept.held
    if held and not is_alive(held.ticket) then
      held = nil
    end
    view = { held and held.ticket or '', held and math.max(now - held.since, 0) or 0, kept.paused and 1 or 0 }
    for _, place in ipairs(waiting) do
      if is_alive(place.ticket) or (held and place.lent ~= 0) then
        view[#view + 1] = place.ticket
        view[#view + 1] = math.max(now - place.since, 0)
      end
    end
  end
  found[i - 3] = view
end
return found
