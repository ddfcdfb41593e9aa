-- Have whoever has a lane asked to stop.
--
-- ARGV: 4 key, 5 request, which is done once, 6 grace
-- Returns whether there is anybody.
enter(1, ARGV[4])
bury()
local is_there = lane and lane.held and 1 or 0
if is_there == 0 then
  promote_from(lane)
elseif not is_over(ARGV[5]) then
  ask_to_stop('', ARGV[6], false)
end
mark(ARGV[5])
finish()
return is_there
