"""What must hold in a table of lanes between any two transitions, read from the inside."""

# pyright: reportPrivateUsage=false

from turnlane import Lanes
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
    return wrong + (_broken_slots(table) if table.max_running is not None else _unused_slots(table))


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
    startable = line.first() is not None and not line.paused and key not in table.holders
    if startable and table.ready.get(key) is not line:
        wrong.append(f"the head of {key!r} could start and nobody will start it")
    if not startable and key in table.ready:
        wrong.append(f"{key!r} is ready and its head can not start")
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


def _broken_slots(table: Table) -> list[str]:
    wrong: list[str] = []
    running, limit = set(table.holders.values()), table.max_running or 0
    if set(table.slots) != running:
        wrong.append(f"{len(table.slots)} turns have a slot, {len(running)} run")
    users: dict[int, int] = {}
    for slot in table.slots.values():
        users[id(slot)] = users.get(id(slot), 0) + 1
    if table.used != len(users) or table.used > limit:
        wrong.append(f"used is {table.used}, there are {len(users)} slots of at most {limit}")
    if any(slot.users != users[id(slot)] for slot in table.slots.values()):
        wrong.append("a slot counts other users than it has")
    if table.ready and table.used < limit:
        wrong.append(f"{list(table.ready)} are ready while {limit - table.used} slots are free")
    if not set(table.ready) <= set(table.lines):
        wrong.append(f"{set(table.ready) - set(table.lines)} are ready and have no line")
    return wrong


def _unused_slots(table: Table) -> list[str]:
    used = (table.slots, table.used, table.ready)
    return [f"slots are counted without a limit: {used}"] if any(used) else []


def leftovers(lanes: Lanes) -> list[str]:
    """Return what lanes that are idle still keep; an empty list if nothing is left."""
    gate, table = lanes.gate, lanes.gate.table
    left = {
        "holders": table.holders,
        "lines": table.lines,
        "waiting": table.waiting,
        "slots": table.slots,
        "used": table.used,
        "ready": table.ready,
        "deadlines": None if gate._deadlines is None else gate._deadlines._same,
        "timeouts": None if gate._endings is None else gate._endings.timeouts,
    }
    counts = lanes.statistics()
    wrong = [f"{name} is {value}" for name, value in left.items() if value]
    if (counts.lanes, counts.running, counts.waiting) != (0, 0, 0):
        wrong.append(f"statistics say {counts}")
    return wrong
