-- End the waits of tickets whose messages have become part of the turn that has the lane.
--
-- ARGV: 4 key, 5 ticket that has it, then for each: ticket, how, payload
-- Returns after how many microseconds the lane is to be looked at again.
enter(1, ARGV[4])
promote()
local held = lane and lane.held
if held and held.ticket == ARGV[5] then
  for i = 6, #ARGV, 3 do
    local place, how, payload = place_of(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
    if place and how == 'shared' then
      place.lent = TOLD
      put(place)
      tell(place.worker, over_note(place.ticket, how, held.ticket, payload))
    elseif place then
      end_wait(place, how, held.ticket, payload)
    end
  end
end
return finish()
