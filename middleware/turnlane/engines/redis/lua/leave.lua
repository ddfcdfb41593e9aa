-- Let a lane go, or leave its line; with no ticket, only have it granted to who is first.
--
-- ARGV: 4 key, 5 ticket, 6 whether the next one is to take back what was written (? if this one was to), 7 whether
--       those who were part of the turn are to stand alone
-- Returns after how many microseconds the lane is to be looked at again.
local ticket = ARGV[5]
enter(1, ARGV[4])
local held = lane and lane.held
if held and held.ticket == ticket then
  local owes = ARGV[6] == '1' or (ARGV[6] == '?' and held.owes)
  local rest = without_holder(owes, ARGV[7] == '1') -- first, as it needs no memory
  mark(ticket)
  promote_from(rest)
else
  if ticket ~= '' then
    drop(ticket)
    mark(ticket)
  end
  promote()
end
return finish()
