-- Look at lanes.
--
-- KEYS: six for each lane
-- ARGV: 4 and following: the keys of the lanes
-- Returns for each lane: who has it and for how many microseconds (empty and 0 for nobody), whether it is paused, and
-- the tickets in line, each with how long it has waited; or nothing for one that is idle.
local found = {}
for i = 4, #ARGV do
  local first = 6 * (i - 4) + 1
  LANE, LINE = KEYS[first], KEYS[first + 1]
  local packed, view = call('HGET', LANE, 's'), {}
  local waiting = all_places()
  if packed or waiting[1] then
    local kept = packed and lane_in(packed) or {}
    local held = kept.held
    view = { held and held.ticket or '', held and math.max(now - held.since, 0) or 0, kept.paused and 1 or 0 }
    for _, place in ipairs(waiting) do
      view[#view + 1] = place.ticket
      view[#view + 1] = math.max(now - place.since, 0)
    end
  end
  found[i - 3] = view
end
return found
