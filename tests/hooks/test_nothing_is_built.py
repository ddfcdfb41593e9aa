"""Nobody listens: no event object is made, in any of the ways a turn can go."""

# pyright: reportPrivateUsage=false

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from support.turns_steps import apart, held, until_idle
from turnlane import Coalesce, Interrupt, LaneMiddleware, Lanes, Reject, Runtime, Sessions, Steer, Turn, hooks
from turnlane.engines import Lost
from turnlane.engines.memory import MemoryEngine
from turnlane.errors import (
    EngineUnavailable,
    LaneBusy,
    LaneReentry,
    TranscriptTakeover,
    TurnInterrupted,
    TurnRedirected,
)
from turnlane.hooks import Event, Hooks
from turnlane.lanes.shared import SharedGate
from turnlane.testing import AsgiDriver
from turnlane.transcripts import TranscriptMonitor, Transcripts, jsonl

EVENT_CLASSES: list[type[Event]] = [
    each
    for each in (getattr(hooks, name) for name in hooks.__all__)
    if isinstance(each, type) and issubclass(each, Event) and each is not Event
]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many events of each class were made."""
    counter: Counter[str] = Counter()

    def counted(event_class: Any) -> Any:
        original = event_class.__init__

        def init(self: Event, **facts: Any) -> None:
            counter[event_class.__name__] += 1
            original(self, **facts)

        return init

    for event_class in EVENT_CLASSES:
        monkeypatch.setattr(event_class, "__init__", counted(event_class))
    return counter


async def everything(runtime: Runtime) -> None:
    """Let every kind of event happen, slow turns included."""
    lanes = runtime.lanes
    entered, told_slow = asyncio.Event(), asyncio.Event()

    async def stopped() -> None:
        async with lanes.turn("a"):
            entered.set()
            await asyncio.Event().wait()

    @runtime.agent_turn(key="key")
    async def stream(key: str) -> AsyncIterator[str]:
        yield key

    async def app(scope: object, receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with runtime.turn("a"):
        with pytest.raises(LaneReentry):
            async with lanes.turn("a"):
                pass
    assert [item async for item in stream("b")] == ["b"]
    guarded: Any = LaneMiddleware(app, key="x-session-key", runtime=runtime, idempotency="memory://", trusted_keys=True)
    for body in (b"", b"", b"another"):  # a message, a duplicate, and another with the same key
        headers = {"x-session-key": "c", "idempotency-key": "one"}
        await AsgiDriver(guarded).start("POST", headers=headers, body=body).finished()
    async with held(lanes, "d"):
        with pytest.raises(LaneBusy):
            async with lanes.turn("d", policy=Reject()):
                pass
    await messages_into_other_turns(lanes)
    task = apart(stopped())
    await entered.wait()
    tell_slow = lanes.gate.outcomes._tell_slow

    def tell(turn: Turn, age: float) -> None:
        tell_slow(turn, age)
        told_slow.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes.gate.outcomes, "_tell_slow", tell)
        await told_slow.wait()
    async with lanes.turn("a", policy=Interrupt(grace=0)):
        pass
    with pytest.raises(TurnInterrupted):
        await task
    assert runtime.sessions is not None
    await runtime.sessions.renew("a")
    await a_lane_lost(runtime.hooks)
    await transcripts_changed_by_hand(runtime.hooks)
    await runtime.drain()
    await until_idle()


async def messages_into_other_turns(lanes: Lanes) -> None:
    """One that is steered into the turn that runs, and one that is coalesced into the turn of the next."""

    async def send(policy: Coalesce | Steer) -> None:
        with suppress(TurnRedirected):
            async with lanes.turn("e", policy=policy, message="one"):
                pass

    async with lanes.turn("e") as turn:
        senders = [apart(send(Steer())), *(apart(send(Coalesce(window=0))) for _ in range(2))]
        await until_idle()
        steered = turn.steering.take()
        assert steered is not None
        assert steered.done()
    await asyncio.wait(senders)


async def a_lane_lost(told: Hooks) -> None:
    """By the engine of lanes that are shared."""
    async with Lanes(MemoryEngine(), hooks=told) as lanes:
        with pytest.raises(EngineUnavailable):
            async with lanes.turn("f") as turn:
                assert isinstance(lanes.gate, SharedGate)
                lanes.gate.tell(Lost("f", turn.id))
                await asyncio.Event().wait()


async def transcripts_changed_by_hand(told: Hooks) -> None:
    """A prompt release that goes well, one during which somebody edits the file, a power loss, and more."""
    with TemporaryDirectory() as directory:
        transcripts = Transcripts(directory, hooks=told)
        Path(directory, "b.jsonl").write_bytes(b"{}\n")
        async with TranscriptMonitor(transcripts) as monitor:
            await monitor.scan()
        async with transcripts.open("a") as transcript, transcript.released():
            pass
        with pytest.raises(TranscriptTakeover):
            async with transcripts.open("a") as transcript, transcript.released():
                Path(transcript.path).write_bytes(b"{}\n")
        traced = Transcripts(directory, hooks=told, trace_turns=True)
        async with traced.open("c", token=1, turn="T") as transcript:
            await transcript.append({"role": "user"})
        assert await traced.take_out("c", "T") == 1
        async with transcripts.open("a") as transcript:
            await transcript.append({"role": "user"})
        os.truncate(transcript.path, Path(transcript.path).stat().st_size - 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jsonl, "boot_of", lambda: b"the next one" + bytes(4))  # the machine has started anew
            async with Transcripts(directory, hooks=told).open("a"):
                pass


def make() -> Runtime:
    lanes = Lanes(slow_after=0.005)
    return Runtime(lanes=lanes, sessions=Sessions(hooks=lanes.hooks))


async def test_without_listeners_no_event_is_built(built: Counter[str]) -> None:
    """Not one, whatever happens."""
    await everything(make())
    assert built == {}


async def test_with_a_listener_of_everything_each_is_built_once(built: Counter[str]) -> None:
    """The counting works, and the scene has every event there is."""
    runtime = make()
    heard: Counter[str] = Counter()
    for _ in range(2):
        runtime.hooks.on(Event, lambda event: heard.update([type(event).__name__]))
    await everything(runtime)
    assert set(built) == {each.__name__ for each in EVENT_CLASSES}
    assert heard == Counter({name: 2 * count for name, count in built.items()})


@pytest.mark.parametrize("event_class", EVENT_CLASSES)
async def test_with_a_listener_of_one_kind_only_that_is_built(built: Counter[str], event_class: type[Event]) -> None:
    """What nobody wants costs nothing although somebody wants something else."""
    runtime = make()
    heard: list[Event] = []
    runtime.hooks.on(event_class, heard.append)
    await everything(runtime)
    assert built == {event_class.__name__: len(heard)}


async def test_after_the_last_listener_has_gone_none_is_built(built: Counter[str]) -> None:
    """Taking it off is enough."""
    runtime = make()
    off = runtime.hooks.on(Event, lambda event: None)
    async with runtime.turn("warm"):
        pass
    off()
    built.clear()
    await everything(runtime)
    assert built == {}
