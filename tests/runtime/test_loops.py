"""Several event loops, one after the other; processes that were forked."""

import asyncio
import threading
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from support.turns_steps import apart, held, output_of
from turnlane import LaneMiddleware, Runtime, Turn
from turnlane.errors import NotConfigured
from turnlane.hooks import Event


def runtime_at(kind: str, directory: Path) -> Runtime:
    return Runtime(sessions="memory://" if kind == "memory" else f"sqlite:///{directory}/sessions.db")


KINDS = pytest.mark.parametrize("kind", ["memory", "sqlite"])


@KINDS
def test_every_loop_finds_the_same_sessions_and_free_lanes(kind: str, tmp_path: Path) -> None:
    """`asyncio.run` again and again, without closing anything in between."""
    runtime = runtime_at(kind, tmp_path)
    seen: list[str] = []

    @runtime.agent_turn(key="key")
    async def answer(key: str, *, turn: Turn) -> str:
        await asyncio.sleep(0)
        assert turn.session is not None
        return turn.session.id

    async def main() -> None:
        seen.extend(await asyncio.gather(*(answer("a") for _ in range(3))))

    for _ in range(3):
        asyncio.run(main())
    assert len(seen) == 9
    assert len(set(seen)) == 1
    assert runtime.lanes.statistics().totals == {"completed": 9}
    asyncio.run(runtime.aclose())


def test_lanes_of_a_loop_that_was_torn_down_do_not_block_the_next(tmp_path: Path) -> None:
    """A loop that is closed with a turn in it takes the turn with it."""
    runtime = Runtime()
    loop = asyncio.new_event_loop()
    scope = runtime.turn("a")
    loop.run_until_complete(scope.__aenter__())
    assert runtime.lanes.statistics().running == 1
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()

    async def again() -> str:
        async with runtime.turn("a") as turn:
            return turn.key

    assert asyncio.run(again()) == "a"


def test_async_listeners_hear_in_every_loop() -> None:
    """Their tasks belong to the loop that runs."""
    runtime = Runtime()
    heard: list[str] = []

    async def listen(event: Event) -> None:
        await asyncio.sleep(0)
        heard.append(type(event).__name__)

    runtime.hooks.on(Event, listen)

    async def main() -> None:
        async with runtime, runtime.turn("a"):
            pass

    for _ in range(2):
        asyncio.run(main())
    assert heard == ["TurnStarted", "TurnFinished", "DrainStarted"] * 2


@KINDS
@pytest.mark.parametrize("lifespan", [False, True])
def test_a_test_client_that_makes_a_loop_per_request(kind: str, lifespan: bool, tmp_path: Path) -> None:
    """Starlette's own: without its block each request has a new loop in a new thread."""
    runtime = runtime_at(kind, tmp_path)

    async def endpoint(request: Request) -> PlainTextResponse:
        turn: Turn = request.state.turn
        assert turn.session is not None
        return PlainTextResponse(turn.session.id)

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])], lifespan=runtime.lifespan)
    app.add_middleware(LaneMiddleware, key="x-session-key", runtime=runtime, trusted_keys=True)
    client = TestClient(app)

    def ids() -> set[str]:
        return {client.post("/", headers={"x-session-key": "a"}).text for _ in range(3)}

    if lifespan:
        with client:
            first = ids()
        with client:
            second = ids()
    else:
        first, second = ids(), ids()
        asyncio.run(runtime.aclose())
    assert len(first | second) == 1


async def test_two_running_loops_at_once_are_refused() -> None:
    """While a lane lives here, another loop can not use these lanes; afterwards it can."""
    runtime = Runtime()
    found: list[object] = []

    def elsewhere() -> None:
        async def one_turn() -> str:
            async with runtime.turn("other") as turn:
                return turn.key

        try:
            found.append(asyncio.run(one_turn()))
        except NotConfigured as error:
            found.append(str(error))

    async def in_a_thread() -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)

    async with held(runtime.lanes, "a"):
        await apart(in_a_thread())
    await apart(in_a_thread())
    assert "in use in another event loop" in str(found[0])
    assert found[1] == "other"
    async with runtime.turn("a"):
        pass


FORK = """
import asyncio, contextvars, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of a fork beside threads
from turnlane import Runtime, Turn, errors

runtime = Runtime(sessions=sys.argv[1] or None)

@runtime.agent_turn(key="key")
async def answer(key, *, turn: Turn):
    return turn.session.id if turn.session else turn.id

def child(work):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            print("child", work(), flush=True)
        except BaseException as error:
            print("child", type(error).__name__, "forked" in str(error), flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


@KINDS
def test_sessions_that_were_opened_before_a_fork_raise_in_the_child(kind: str, tmp_path: Path) -> None:
    """The error says so, the lane is free, closing is harmless; the parent goes on."""
    url = "memory://" if kind == "memory" else f"sqlite:///{tmp_path}/sessions.db"
    printed = output_of(
        FORK
        + """
first = asyncio.run(answer("a"))
def use():
    try:
        asyncio.run(answer("a"))
    finally:
        assert runtime.lanes.statistics().lanes == 0
        asyncio.run(runtime.aclose())
child(use)
print("parent", asyncio.run(answer("a")) == first)
asyncio.run(runtime.aclose())
""",
        url,
    )
    assert printed.splitlines() == ["child NotConfigured True", "parent True"]


@KINDS
def test_a_fork_before_the_first_use_is_fine(kind: str, tmp_path: Path) -> None:
    """A server that is loaded once and forks its workers; over a file they share the session."""
    url = "memory://" if kind == "memory" else f"sqlite:///{tmp_path}/sessions.db"
    printed = output_of(
        FORK
        + """
def use():
    async def main():
        async with runtime:
            return await answer("a")
    return asyncio.run(main())
for _ in range(3):
    child(use)
""",
        url,
    )
    ids = {line.removeprefix("child ") for line in printed.splitlines()}
    assert len(ids) == (3 if kind == "memory" else 1)


def test_turn_ids_of_forked_workers_differ() -> None:
    """Also those of lanes that were made, or used, before the fork."""
    printed = output_of(
        FORK
        + """
use = lambda: asyncio.run(answer("a"))
for _ in range(2):
    child(use)
print("parent", use())
for _ in range(2):
    child(use)
""",
        "",
    )
    ids = [line.split()[1] for line in printed.splitlines()]
    assert len(ids) == len(set(ids)) == 5


def test_a_fork_while_a_turn_runs_is_refused_in_the_child() -> None:
    """The child has a copy of a lane that is not its own: it does not take it for free."""
    printed = output_of(
        FORK
        + """
async def parent():
    async with runtime.turn("a"):
        child(lambda: contextvars.Context().run(asyncio.run, answer("a")))
    return await answer("a")
print("parent", asyncio.run(parent()).startswith("turn-"))
""",
        "",
    )
    assert [line.split()[:2] for line in printed.splitlines()] == [["child", "NotConfigured"], ["parent", "True"]]


def test_a_fork_from_inside_a_task_is_a_process_of_its_own() -> None:
    """While no turn runs: requests of the child get their own task, their own names, and wait for each other."""
    printed = output_of(
        FORK
        + """
from turnlane import LaneMiddleware, current_turn
async def app(scope, receive, send):
    turn = current_turn()
    own.append(turn._task is asyncio.current_task())
    ids.append(turn.id.rpartition("-")[0])
    waiting, wanted[0] = wanted[0], 0
    while guarded.runtime.lanes.statistics().waiting < waiting:
        await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
guarded = LaneMiddleware(app, key="x-key", trusted_keys=True)
own, ids, wanted = [], [], [0]
async def request():
    sent = []
    async def receive():
        await asyncio.sleep(60)
    async def send(message):
        sent.append(message)
    await guarded({"type": "http", "method": "POST", "headers": [(b"x-key", b"a")]}, receive, send)
    return sent[0]["status"]
async def two():
    wanted[0] = 1  # the first ends once the second stands in line
    return await asyncio.gather(request(), request())
def use():
    statuses = contextvars.Context().run(asyncio.run, two())
    return statuses, all(own), len(set(ids))
async def parent():
    await request()
    child(use)
    return await request()
print("parent", asyncio.run(parent()), len(set(ids)))
""",
        "",
    )
    assert printed.splitlines() == ["child ([200, 200], True, 2)", "parent 200 1"]
