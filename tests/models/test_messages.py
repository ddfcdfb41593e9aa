"""Messages under all policies, in every order of what may happen to them, within small bounds."""

from collections.abc import Iterator
from itertools import product

import pytest

from models.message_driver import MakeGate
from models.message_interleavings import Mismatch, every_interleaving
from models.message_words import EVERYTHING, USUAL, Name, Scene
from models.planted_messages import PLANTED
from support.lanes_visitors import on_virtual_time

NAMES: tuple[Name, ...] = (
    "enqueue",
    "reject",
    "interrupt",
    "rollback",
    "coalesce",
    "fussy",
    "share",
    "refuse",
    "oldest",
    "steer",
)

# Where it makes a difference how a turn ends, who is asked to stop, and who waits no longer.
DELICATE: tuple[Name, ...] = ("rollback", "coalesce", "share", "steer")

# What is tried of four messages in the short form: each with one that takes over.
PAIRS: tuple[tuple[Name, Name], ...] = (
    ("coalesce", "interrupt"),
    ("share", "interrupt"),
    ("refuse", "interrupt"),
    ("oldest", "rollback"),
)


def messages_of_principals(*, most: int, behind: int) -> Iterator[Scene]:
    """Yield scenes with messages of two principals, the first of whom has the lane."""
    names: tuple[Name, ...] = ("interrupt", "coalesce", "oldest", "steer")
    for others, whom in product(product(names, repeat=behind), product("pq", repeat=behind)):
        yield Scene(("enqueue", *others), USUAL, ("p", *whom), most)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("second", NAMES)
@on_virtual_time
async def test_two_messages_behind_a_turn_do_what_the_model_says(second: Name, long_form: bool) -> None:
    """Each combination of policies, in every interleaving; in the long form everything that may happen."""
    kinds = EVERYTHING if long_form else USUAL
    assert sum(every_interleaving(Scene(("enqueue", second, third), kinds)) for third in NAMES) > 150


@pytest.mark.timeout(600)
@pytest.mark.parametrize("second", DELICATE)
@on_virtual_time
async def test_turns_that_fail_are_interrupted_or_expire_do_what_the_model_says(second: Name, long_form: bool) -> None:
    """By an operator, too; behind a turn that has a message itself."""
    thirds = NAMES if long_form else DELICATE
    assert sum(every_interleaving(Scene(("reject", second, third), EVERYTHING)) for third in thirds) > 150


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@on_virtual_time
async def test_three_messages_behind_a_turn_do_what_the_model_says(pair: tuple[Name, Name], long_form: bool) -> None:
    """Those that gather and those that take over; in the long form everything that may happen."""
    kinds = EVERYTHING if long_form else USUAL
    for others in product(pair, repeat=3):
        every_interleaving(Scene(("enqueue", *others), kinds))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("second", NAMES)
@on_virtual_time
async def test_three_messages_under_all_policies_do_what_the_model_says(second: Name, long_form: bool) -> None:
    """Behind a turn that runs; in the short form three of one policy."""
    combinations: list[tuple[Name, ...]] = [*product(NAMES, repeat=2)] if long_form else [(second, second)]
    for others in combinations:
        every_interleaving(Scene(("enqueue", second, *others)))


@pytest.mark.timeout(600)
@on_virtual_time
async def test_messages_of_two_principals_do_what_the_model_says(long_form: bool) -> None:
    """One of each may wait; nobody's message becomes part of the other's turn."""
    scenes = [*messages_of_principals(most=1, behind=2)]
    if long_form:
        scenes += [*messages_of_principals(most=1, behind=3), *messages_of_principals(most=2, behind=3)]
    assert sum(map(every_interleaving, scenes)) > 500


@pytest.mark.parametrize(("planted", "scene"), PLANTED, ids=[planted.__name__ for planted, _ in PLANTED])
@on_virtual_time
async def test_lanes_with_a_bug_are_found(planted: MakeGate, scene: Scene) -> None:
    """The checks above can fail: each planted bug shows."""
    with pytest.raises(Mismatch):
        every_interleaving(scene, planted)
