-- Grant a lane to nobody, or undo that.
--
-- ARGV: 4 key, 5 request, which is done once, 6 whether it is to be paused
-- Returns after how many microseconds the lane is to be looked at again.
enter(1, ARGV[4])
bury()
if not is_over(ARGV[5]) then
  mark(ARGV[5])
  lane = lane or {}
  lane.paused = ARGV[6] == '1'
end
promote_from(lane)
return finish()
