-- Take tickets of a worker that closes out of their lanes.
--
-- KEYS: six for each lane
-- ARGV: 4 number of tickets, then for each: index of its lane, from 0, key, ticket
local count = tonumber(ARGV[4])
for i = 0, count - 1 do -- all are dead before a lane is granted
  local at = 5 + 3 * i
  call('HDEL', KEYS[6 * ARGV[at] + 1], 'a' .. ARGV[at + 2])
end
for i = 0, count - 1 do
  local at = 5 + 3 * i
  local ticket = ARGV[at + 2]
  enter(6 * ARGV[at] + 1, ARGV[at + 1])
  mark(ticket)
  local place = place_of(ticket)
  if place and place.lent == 0 then
    drop(ticket)
  end
end
for i = 0, count - 1 do
  local at = 5 + 3 * i
  enter(6 * ARGV[at] + 1, ARGV[at + 1])
  promote()
  finish()
end
return 0
