"""One burst at one server, from start to facts; and both servers one after the other."""

import asyncio
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from turnlane.cli.demo.burst import BURST, Planned, Received, fire
from turnlane.cli.demo.facts import MessageFacts, Moment, RunFacts
from turnlane.cli.demo.host import LoopbackServer
from turnlane.cli.demo.log import Note, NotedArrivals, NoteKind, TurnLog
from turnlane.cli.demo.model import Model
from turnlane.cli.demo.server import create_app, create_protected_app
from turnlane.cli.demo.storage import ConversationStorage
from turnlane.clock import Clock
from turnlane.lanes import Lanes
from turnlane.runtime import Runtime

__all__ = ("FinishedRun", "protected_run", "unprotected_run")


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """The facts of a run and the url of its server, which goes on running until the block ends."""

    facts: RunFacts
    server: LoopbackServer


@contextmanager
def unprotected_run(
    model: Model, directory: Path, *, plan: Sequence[Planned] = BURST
) -> Generator[FinishedRun, None, None]:
    """Fire the burst at the server as people write it.

    Args:
        model: answers; closed at the end of the block.
        directory: where the server stores conversations.
        plan: what to send.
    """
    storage, log = ConversationStorage(directory), TurnLog()
    app = create_app(model, storage, log=log)
    with LoopbackServer(NotedArrivals(app, log=log)) as server:
        received, seconds = _fire(server, plan, log, model)
        facts = _facts("unprotected", plan, received, log.notes(), storage, model.name, seconds, lanes_left=None)
        yield FinishedRun(facts=facts, server=server)


@contextmanager
def protected_run(
    model: Model, directory: Path, *, plan: Sequence[Planned] = BURST, port: int = 0
) -> Generator[FinishedRun, None, None]:
    """Fire the burst at the same server behind lanes.

    Args:
        model: answers; closed at the end of the block.
        directory: where the server stores conversations and the runtime its sessions.
        plan: what to send.
        port: the TCP port on 127.0.0.1; 0 takes a free one.
    """
    storage, log = ConversationStorage(directory), TurnLog()
    lanes = Lanes("memory://")
    runtime = Runtime(lanes=lanes, sessions=f"sqlite:///{directory.resolve() / 'sessions.db'}")
    app = create_protected_app(model, storage, runtime=runtime, log=log)
    with LoopbackServer(NotedArrivals(app, log=log), port=port) as server:
        received, seconds = _fire(server, plan, log, model)
        left = lanes.statistics().lanes
        facts = _facts("protected", plan, received, log.notes(), storage, model.name, seconds, lanes_left=left)
        yield FinishedRun(facts=facts, server=server)


def _fire(
    server: LoopbackServer, plan: Sequence[Planned], log: TurnLog, model: Model
) -> tuple[Mapping[str, Received], float]:
    monotonic = Clock().monotonic
    began = monotonic()
    received = asyncio.run(fire(server.url, plan, log=log, model=model.name))
    log.close()
    return received, monotonic() - began


def _facts(
    name: str,
    plan: Sequence[Planned],
    received: Mapping[str, Received],
    notes: Sequence[Note],
    storage: ConversationStorage,
    model: str,
    seconds: float,
    *,
    lanes_left: int | None,
) -> RunFacts:
    by_label: dict[str, dict[NoteKind, Note]] = {}
    for note in notes:
        by_label.setdefault(note.label, {})[note.kind] = note
    origin = notes[0].at if notes else 0.0
    transcripts = {
        session_id: tuple(message["content"] for message in messages if message["role"] == "user")
        for session_id, messages in storage.transcripts().items()
    }
    return RunFacts(
        name=name,
        model=model,
        seconds=seconds,
        messages=tuple(_message(p, received[p.label], by_label.get(p.label, {}), origin) for p in plan),
        transcripts=transcripts,
        lanes_left=lanes_left,
    )


def _message(planned: Planned, received: Received, notes: Mapping[NoteKind, Note], origin: float) -> MessageFacts:
    def moment(kind: NoteKind) -> Moment | None:
        note = notes.get(kind)
        return None if note is None else Moment(number=note.number, at=note.at - origin)

    loaded, ended = notes.get("loaded"), notes.get("ended")
    return MessageFacts(
        label=planned.label,
        key=planned.key,
        text=planned.text,
        api=planned.api,
        stream=planned.stream,
        leaves=planned.leaves,
        arrived=moment("arrived"),
        started=moment("started"),
        ended=moment("ended"),
        returned=moment("returned"),
        session_id=loaded.session_id if loaded else None,
        remembered=loaded.remembered if loaded else None,
        answered=ended.reply if ended else None,
        received=received.reply,
        error=received.error,
    )
