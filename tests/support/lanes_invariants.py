"""What must hold in a table of lanes between any two transitions, read from the inside."""

# pyright: reportPrivateUsage=false

from collections import Counter

from turnlane import Lanes
from turnlane.lanes.capacity import Capacity, principal_of
from turnlane.lanes.line import Line, Waiter
from turnlane.lanes.table import Table
from turnlane.turns.turn import Turn

__all__ = ("broken_promises", "leftovers", "turns_in_line")


def turns_in_line(line: Line) -> list[Turn]:
    """Return who stands in a line, first come first."""
    turns: list[Turn] = []
    waiter = line.head
    while waiter is not None:
        turns.append(waiter.turn)
        waiter = waiter.next
    return turns


def broken_promises(table: Table) -> list[str]:
    """Return what is wrong with a table; an empty list if nothing is."""
    wrong: list[str] = []
    for key, turn in table.holders.items():
        if turn.key != key:
            wrong.append(f"{key!r} is held by a turn of {turn.key!r}")
    for key, line in table.lines.items():
        wrong += _broken_line(table, key, line)
    length = sum(len(turns_in_line(line)) for line in table.lines.values())
    if table.waiting != length:
        wrong.append(f"waiting is {table.waiting}, the lines hold {length}")
    return wrong + _broken_waiting(table) + ([] if table.capacity is None else _broken_slots(table, table.capacity))


def _broken_line(table: Table, key: str, line: Line) -> list[str]:
    wrong: list[str] = []
    before, waiter = None, line.head
    place = nested = 0
    while waiter is not None:
        if waiter.line is not line or waiter.previous is not before or waiter.turn.key != key:
            wrong.append(f"the line of {key!r} is not linked at place {place}")
        if waiter.turn is table.holders.get(key):
            wrong.append(f"the holder of {key!r} stands in its line")
        nested += waiter in line.nested
        place += 1
        before, waiter = waiter, waiter.next
    size = _size(line, wrong)
    if line.tail is not before or line.size != size:
        wrong.append(f"the line of {key!r} counts {line.size}, it holds {size}")
    if nested != len(line.nested):
        wrong.append(f"{len(line.nested) - nested} of those who lend a slot to {key!r} do not stand in its line")
    if line.key != key or (line.head is None and not line.paused):
        wrong.append(f"an empty line of {line.key!r} is kept under {key!r}")
    return wrong + _broken_head(table, key, line)


def _broken_head(table: Table, key: str, line: Line) -> list[str]:
    wrong: list[str] = []
    startable = line.first() is not None and not line.paused and key not in table.holders
    if table.capacity is None:
        if startable:
            wrong.append(f"the head of {key!r} could start and nobody will start it")
    elif startable != (key in table.capacity.standing):
        wrong.append(f"{key!r} stands for a slot: {not startable}; its head could start: {startable}")
    elif startable and table.capacity.standing[key] != principal_of(line.first().turn):  # type: ignore[union-attr]
        wrong.append(f"{key!r} stands for {table.capacity.standing[key]!r}, and that is not its head's")
    return wrong


def _size(line: Line, wrong: list[str]) -> int:
    """Count the turns a line will make: each group, side by side and in order of arrival, is one."""
    groups: list[list[Waiter]] = []
    waiter = line.head
    while waiter is not None:
        if groups and waiter.group is not None and groups[-1][0].group is waiter.group:
            groups[-1].append(waiter)
        else:
            groups.append([waiter])
        waiter = waiter.next
    for members in groups:
        group = members[0].group
        if group is not None and list(group.members) != members:
            wrong.append(f"a group in the line of {line.key!r} is {list(group.members)}, {members} stand there")
    return len(groups)


def _broken_waiting(table: Table) -> list[str]:
    if table.limits.max_waiting_per_principal is None:
        return [f"{table.waiting_of} are counted without a limit"] if table.waiting_of else []
    turns = [turn for line in table.lines.values() for turn in turns_in_line(line)]
    counted = Counter(principal for principal in map(principal_of, turns) if principal is not None)
    return [] if counted == table.waiting_of else [f"{table.waiting_of} wait, there are {counted}"]


def _broken_slots(table: Table, capacity: Capacity) -> list[str]:
    wrong: list[str] = []
    running = set(table.holders.values())
    if set(capacity.slots) != running:
        wrong.append(f"{len(capacity.slots)} turns have a slot, {len(running)} run")
    slots, users = set(capacity.slots.values()), Counter(capacity.slots.values())
    if capacity.used != len(slots) or (capacity.max_running is not None and capacity.used > capacity.max_running):
        wrong.append(f"used is {capacity.used}, there are {len(slots)} slots of at most {capacity.max_running}")
    if any(slot.users != users[slot] for slot in slots):
        wrong.append("a slot counts other users than it has")
    if capacity.ready and capacity.has_slot:
        wrong.append(f"{list(capacity.ready)} are ready while a slot is free")
    parked = {key: principal for principal, lines in capacity.parked.items() for key in lines}
    stand = {**{key: capacity.standing.get(key) for key in capacity.ready}, **parked}
    if stand != capacity.standing or not stand.keys() <= table.lines.keys():
        wrong.append(f"{capacity.standing} stand for a slot, {stand} are in line for one")
    taken = Counter(slot.principal for slot in slots) + Counter(capacity.standing[key] for key in capacity.ready)
    del taken[None]
    limit = capacity.max_each
    if capacity.places != ({} if limit is None else taken):
        wrong.append(f"{capacity.places} are taken, there are {taken}")
    if limit is not None and any(count > limit for count in taken.values()):
        wrong.append(f"{taken} are taken of at most {limit} each")
    if any(not lines or capacity.has_place(principal) for principal, lines in capacity.parked.items()):
        wrong.append(f"{parked} are parked although places are free")
    return wrong


def leftovers(lanes: Lanes) -> list[str]:
    """Return what lanes that are idle still keep; an empty list if nothing is left."""
    gate, table = lanes.gate, lanes.gate.table
    left = {
        "holders": table.holders,
        "lines": table.lines,
        "waiting": table.waiting,
        "waiting_of": table.waiting_of,
        "slots": table.capacity and table.capacity.slots,
        "used": table.capacity and table.capacity.used,
        "standing": table.capacity and table.capacity.standing,
        "parked": table.capacity and table.capacity.parked,
        "places": table.capacity and table.capacity.places,
        "deadlines": None if gate._deadlines is None else gate._deadlines._same,
        "timeouts": None if gate._endings is None else gate._endings.timeouts,
    }
    counts = lanes.statistics()
    wrong = [f"{name} is {value}" for name, value in left.items() if value]
    if (counts.lanes, counts.running, counts.waiting) != (0, 0, 0):
        wrong.append(f"statistics say {counts}")
    return wrong
