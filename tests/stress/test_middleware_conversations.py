"""Many conversations of overlapping messages, on real sockets: the server in a process of its own, the real client.

Half of the messages go over `/v1/responses`, half over chat completions, some as streams; some clients hang up while
they wait or while they read, some send half a message and leave.

Long form (200 conversations, printed figures):
`pytest -s tests/stress/test_middleware_conversations.py --long`
"""

import asyncio
import time
from pathlib import Path

import pytest

from support.net_conversations import plan_of, talk
from support.net_judging import Evidence, figures_of, violations_of
from support.server_process import server_process
from turnlane import Sessions
from turnlane.cli.demo.storage import ConversationStorage

pytestmark = [pytest.mark.sockets, pytest.mark.stress, pytest.mark.timeout(240)]

MESSAGES = 5


async def burst(directory: Path, conversations: int, *, seed: int, protected: bool = True) -> Evidence:
    """Have the conversations of a seed with a fresh server."""
    plan = plan_of(conversations, MESSAGES, seed=seed)
    async with server_process("server_conversations.py", str(directory), "lanes" if protected else "none") as server:
        outcomes = await talk(server.port, plan, at_once=25)
        await server.tell("report")
        report = await server.reported("report", timeout=40)
    async with Sessions(f"sqlite:///{directory / 'sessions.db'}") as sessions:
        ids = {session.key: session.id for session in await sessions.list(limit=conversations + 1)}
    return Evidence(
        plan=plan,
        outcomes=outcomes,
        notes=report["notes"],
        transcripts=ConversationStorage(directory).transcripts(),
        sessions=ids,
        lanes=report["lanes"],
        totals=report["totals"],
    )


async def test_conversations_keep_their_promises(tmp_path: Path, seed: int, long_form: bool) -> None:
    """One session id per key, no overlap by log and by transcript, arrival order, nothing lost, no lane left."""
    conversations = 200 if long_form else 40
    kinds: set[str] = set()  # of leaving that were seen: a run in which nobody left would show nothing
    for attempt in range(3):
        directory = tmp_path / str(attempt)
        await asyncio.to_thread(directory.mkdir)
        kinds |= await show(directory, conversations, seed + attempt)
        if len(kinds) == 4:
            return
    raise AssertionError(f"--seed={seed}: of all that clients may do only {kinds}")


async def show(directory: Path, conversations: int, seed: int) -> set[str]:
    """Have one burst and judge it; return which of the things happened that depend on who is how fast."""
    began = time.monotonic()
    evidence = await burst(directory, conversations, seed=seed)
    seconds = time.monotonic() - began
    figures = figures_of(evidence)
    print(f"\nconversations seed={seed} {seconds:.1f} s {figures} {dict(evidence.totals)}")
    broken = {promise: found for promise, found in violations_of(evidence).items() if found}
    assert broken == {}, f"--seed={seed}: {broken}"
    assert figures.over_responses * 2 == figures.messages == conversations * MESSAGES
    # Nobody was refused but for having left, and no turn failed.
    assert set(evidence.totals) <= {"completed", "cancelled", "client_gone"}, f"--seed={seed}: {evidence.totals}"
    assert figures.overlapping > conversations, f"--seed={seed}: {figures}"
    assert len(evidence.sessions) <= conversations
    counts = {kind: getattr(figures, kind) for kind in ("left_in_line", "left_in_stream", "halves", "streams")}
    return {kind for kind, count in counts.items() if count}


async def test_the_same_burst_without_lanes_is_found_out(tmp_path: Path, seed: int) -> None:
    """The negative control: each of the detectors sees what the middleware prevents."""
    first = await burst(tmp_path, 6, seed=seed, protected=False)
    # Now each key has a session: turns that overlap answer from one history, and write into one transcript.
    second = await burst(tmp_path, 6, seed=seed + 1, protected=False)
    broken = [{promise for promise, found in violations_of(each).items() if found} for each in (first, second)]
    expected = {"one session id per key", "turns never overlap, by the log", "every message stored once"}
    assert broken[0] >= expected, f"--seed={seed}: {broken}"
    assert broken[1] >= {"turns never overlap, by the transcript"}, f"--seed={seed}: {broken}"
