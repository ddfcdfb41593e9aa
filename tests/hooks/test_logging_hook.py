"""`LoggingHook`: one record per turn."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from support.turns_steps import apart, held, until_idle
from turnlane import Coalesce, Interrupt, Reject, Runtime, Steer, Turn
from turnlane.errors import LaneBusy, TurnInterrupted
from turnlane.hooks import LoggingHook, key_digest
from turnlane.policies import Policy

KEY = "agent:main:alice@example.org"


class Kept(logging.Handler):
    """Keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def facts(self, start: str) -> list[dict[str, str]]:
        """Return the key=value pairs of the records that begin so."""
        messages = [record.getMessage() for record in self.records if record.getMessage().startswith(start)]
        return [dict(pair.split("=", 1) for pair in message.split()[1:]) for message in messages]


@pytest.fixture
def kept() -> Iterator[Kept]:
    """The records of a logger of the test's own, which passes nothing on."""
    handler = Kept()
    logger = logging.getLogger("test.turns")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)


def runtime_with(**settings: int) -> Runtime:
    hook = LoggingHook(logging.getLogger("test.turns"), **settings)
    assert repr(hook) == "<LoggingHook test.turns>"
    return Runtime(sessions="memory://", hooks=[hook])


async def test_same_key_which_session_is_answered_from_the_log(kept: Kept) -> None:
    """Two turns of a key and one of another: digests join them, sessions are new or reused."""
    runtime = runtime_with()
    turns: list[Turn] = []
    for key in (KEY, KEY, "other"):
        async with runtime.turn(key) as turn:
            turns.append(turn)
    facts = kept.facts("turn_finished")
    assert [each["key"] for each in facts] == [key_digest(KEY), key_digest(KEY), key_digest("other")]
    assert [each["session"] for each in facts] == [turn.session and turn.session.id for turn in turns]
    assert [each["session_is"] for each in facts] == ["new", "reused", "new"]
    assert [each["turn"] for each in facts] == [turn.id for turn in turns]
    assert {each["outcome"] for each in facts} == {"completed"}
    assert all(float(each["waited_ms"]) >= 0 and float(each["ran_ms"]) >= 0 for each in facts)
    assert len(kept.facts("session_minted")) == 2


async def test_the_facts_are_attributes_of_the_record(kept: Kept) -> None:
    """For handlers that write something else than text; the text and the attributes agree."""
    runtime = runtime_with()
    async with runtime.turn(KEY) as turn:
        pass
    async with held(runtime.lanes, KEY):
        with pytest.raises(LaneBusy):
            async with runtime.turn(KEY, policy=Reject()):
                pass
    finished, refused = [
        vars(record) for record in kept.records if record.getMessage().startswith(("turn_finished", "turn_refused"))
    ][:2]
    assert turn.session is not None
    names = ("turnlane_key", "turnlane_session", "turnlane_turn", "turnlane_outcome")
    assert [finished[name] for name in names] == [key_digest(KEY), turn.session.id, turn.id, "completed"]
    assert [refused[name] for name in names[:2]] == [key_digest(KEY), None]
    assert refused["turnlane_outcome"] == "busy"
    assert refused["turnlane_turn"].startswith("turn-")


async def test_the_key_is_never_written(kept: Kept) -> None:
    """Neither in the text nor in any attribute of a record, whatever happens to the turn."""
    runtime = runtime_with()

    @runtime.agent_turn(key="key")
    async def answer(key: str) -> None:
        raise RuntimeError(f"about {key}")

    async def endless() -> None:
        async with runtime.turn(KEY):
            await asyncio.Event().wait()

    with pytest.raises(RuntimeError):
        await answer(KEY)
    task = apart(endless())
    await until_idle()
    waiting = apart(endless())
    await until_idle()
    async with runtime.turn(KEY, policy=Interrupt(grace=0)):
        with pytest.raises(LaneBusy):
            async with held(runtime.lanes, KEY[:3]), runtime.turn(KEY[:3], policy=Reject()):
                pass
    for each in (task, waiting):
        with pytest.raises(TurnInterrupted):
            await each
    await runtime.aclose()
    kinds = {record.getMessage().split()[0] for record in kept.records}
    assert kinds == {"turn_finished", "turn_refused", "turn_interruption", "session_minted"}
    for record in kept.records:
        everything = f"{record.getMessage()} {vars(record)}"
        assert KEY not in everything
        assert "alice" not in everything


async def test_what_went_wrong_is_a_warning(kept: Kept) -> None:
    """What went as intended has the level that was asked for."""
    runtime = runtime_with(level=logging.DEBUG)
    async with runtime.turn("a"):
        pass
    with pytest.raises(KeyError):
        async with runtime.turn("a"):
            raise KeyError
    async with held(runtime.lanes, "a"):
        with pytest.raises(LaneBusy):
            async with runtime.turn("a", policy=Reject()):
                pass
    levels = [(record.getMessage().split()[0], record.levelno) for record in kept.records]
    assert levels == [
        ("session_minted", logging.DEBUG),
        ("turn_finished", logging.DEBUG),
        ("turn_finished", logging.WARNING),
        ("turn_refused", logging.WARNING),
        ("turn_finished", logging.DEBUG),
    ]


async def test_an_interruption_names_both_turns_and_the_grace(kept: Kept) -> None:
    """By a turn, or by an operator."""
    runtime = runtime_with()
    async with runtime.turn("a") as turn:
        runtime.lanes.interrupt("a", grace=2.5)
    assert kept.facts("turn_interruption") == [
        {"key": key_digest("a"), "turn": turn.id, "by": "operator", "grace_s": "2.5"}
    ]


async def test_a_message_that_another_turn_answers_names_both(kept: Kept) -> None:
    """One record for each, at the level of what goes as intended, with the same attributes."""
    runtime = runtime_with()

    async def say(policy: Policy, text: str) -> None:
        async with runtime.turn("a", policy=policy, message=text):
            pass

    async with runtime.turn("a") as turn:
        policies: list[Policy] = [Steer(), Coalesce(window=0), Coalesce(window=0)]
        waiting = [apart(say(policy, "x")) for policy in policies]
        await until_idle()
        steered = turn.steering.take()
        assert steered is not None
        steered.done()
    await asyncio.gather(*waiting, return_exceptions=True)
    into = kept.facts("turn_finished")[-1]["turn"]
    facts = kept.facts("turn_redirected")
    assert [(each["key"], each["outcome"], each["into"]) for each in facts] == [
        (key_digest("a"), "steered", turn.id),
        (key_digest("a"), "coalesced", into),
    ]
    [record, _] = [each for each in kept.records if each.getMessage().startswith("turn_redirected")]
    assert record.levelno == logging.INFO
    assert (vars(record)["turnlane_turn"], vars(record)["turnlane_outcome"]) == (steered.turn, "steered")
    assert kept.facts("turn_refused") == []


async def test_a_turn_without_sessions_has_none(kept: Kept) -> None:
    """A dash, not a None."""
    runtime = Runtime(hooks=[LoggingHook(logging.getLogger("test.turns"))])
    async with runtime.turn("a"):
        pass
    [facts] = kept.facts("turn_finished")
    assert (facts["session"], facts["session_is"]) == ("-", "-")


async def test_it_writes_to_the_turns_logger_at_info_by_default(caplog: pytest.LogCaptureFixture) -> None:
    """Where an operator looks for it."""
    runtime = Runtime(hooks=[LoggingHook()])
    with caplog.at_level(logging.INFO, "turnlane.turns"):
        async with runtime.turn("a"):
            pass
    assert [(record.name, record.levelno) for record in caplog.records] == [("turnlane.turns", logging.INFO)]
