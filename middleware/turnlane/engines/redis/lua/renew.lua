-- Say that tickets are alive, and hear what is to be told of them. Those of one lane come one after the other.
--
-- KEYS: six for each lane
-- ARGV: 4 number of tickets, then for each: index of its lane, from 0, key, ticket, token it has the lane by or 0
-- Returns for each ticket: after how many microseconds its lane is to be looked at again, and what is told.
local tickets = {}
for i = 0, tonumber(ARGV[4]) - 1 do
  local at = 5 + 4 * i
  tickets[i + 1] = { first = 6 * ARGV[at] + 1, key = ARGV[at + 1], id = ARGV[at + 2], token = tonumber(ARGV[at + 3]) }
end
for _, ticket in ipairs(tickets) do
  LANE = KEYS[ticket.first]
  touch_if_known(ticket.id)
end

-- Who has the lane says so after the server has lost it, before anybody else is granted one.
local function assert_again(ticket)
  local held = lane and lane.held
  if ticket.token == 0 or (held and held.ticket == ticket.id) or is_over(ticket.id) then
    return
  elseif ticket.token > token then
    token = ticket.token
    recover() -- a server that was behind has become the master
  elseif recovers <= now or (held and held.token > ticket.token) then
    return
  end
  drop(ticket.id)
  local kept = { owes = false, paused = lane and lane.paused }
  if held then
    kept = without_holder(held.owes, false)
  end
  kept.held = a_holder(ticket.id, worker, ticket.token, false, {}, false)
  touch(ticket.id)
  put_lane(kept)
  if held then
    tell(held.worker, { 'lost', key, held.ticket })
  end
end

local function told(ticket)
  local held = lane and lane.held
  if held and held.ticket == ticket then
    if held.asked then
      return { granted(held), { 'interrupted', key, ticket, held.by, held.grace, held.rollback and '1' or '' } }
    end
    return { granted(held) }
  end
  local how = fate(ticket)
  if how then
    return { how }
  end
  return place_of(ticket) and {} or { { 'lost', key, ticket } }
end

local found = {}
for i, ticket in ipairs(tickets) do
  enter(ticket.first, ticket.key)
  assert_again(ticket)
  promote()
  local notes = told(ticket.id)
  found[i] = { finish(), notes }
end
return found
