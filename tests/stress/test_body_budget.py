"""Many bodies at once: the budget that all of them share, the limit of each, and clients that send slowly."""

import asyncio
import hashlib
import json
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest

from support.fuzz_budget import BodyApp, Upload, Uploads, held_by, pieces_of, settle
from support.net_http import Answer, connected, request
from support.server_loopback import uvicorn_serving
from turnlane import Enqueue, LaneMiddleware, Lanes, keys
from turnlane.errors import CapacityExceeded
from turnlane.hooks import TurnQueued, TurnRefused
from turnlane.testing import AsgiDriver, Gates, assert_no_leaks, no_leaks

pytestmark = [pytest.mark.stress, pytest.mark.timeout(300)]

LIMIT = 4096
PARSERS = ("h11", "httptools")


async def judge(upload: Upload, app: BodyApp) -> None:
    """Check that an upload has ended as its state says."""
    if upload.state == "served":
        response = await upload.request.response()
        assert (response.status, response.text) == (200, str(len(upload.body))), upload.name
        assert app.bodies[upload.name] == upload.body, upload.name
    elif upload.state == "refused":
        response = await upload.request.response()
        assert (response.status, response.json()["error"]["code"]) == (503, "capacity"), upload.name
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert upload.name not in app.bodies
    elif upload.request.messages:  # who left the line is ended with an empty response
        start, *rest = upload.request.messages
        assert (upload.state, start["status"]) == ("left", 499), upload.name
        assert not any(message["body"] for message in rest)


async def test_the_budget_is_kept_at_every_step(seed: int, long_form: bool) -> None:
    """Exactly who finds no room is refused, and what is held is always what those who wait have sent."""
    steps = 40_000 if long_form else 3_000
    uploads = Uploads(Random(seed), budget=6_000, limit=800)
    middleware = uploads.middleware()
    async with no_leaks(uploads.lanes), AsgiDriver(middleware) as driver:
        for number in range(steps):
            await uploads.step(driver, keys=5, open_at_most=40)
            where = f"--seed={seed}, step {number}: {dict(uploads.seen)}"
            assert held_by(middleware) == uploads.held <= uploads.budget, where
            statistics = uploads.lanes.statistics()
            running = sum(bool(line) for line in uploads.lines.values())
            assert (statistics.running, statistics.waiting) == (running, len(uploads.alive) - running), where
        await uploads.let_all_go(driver)
        for upload in uploads.all:
            await judge(upload, uploads.app)
    print(f"{steps} steps, {len(uploads.all)} uploads: {dict(uploads.seen)}")
    assert held_by(middleware) == 0
    expected = {f"{how} while {state}" for how in ("left", "cancelled") for state in ("waiting", "running")}
    expected |= {"served while running", "refused while waiting", "beyond body_limit"}
    assert all(uploads.seen[each] for each in expected), f"--seed={seed}: {dict(uploads.seen)}"


@pytest.mark.parametrize("count", [50, 400])
async def test_a_flood_stays_within_the_budget(seed: int, count: int) -> None:
    """All send at once: at most the budget and one piece is held, everybody is served whole or refused."""
    rng, largest, budget = Random(seed), 256, 20_000
    app, lanes = BodyApp(), Lanes(policy=Enqueue(max_waiting=None))
    middleware = LaneMiddleware(app, key="x-key", lanes=lanes, body_limit=LIMIT, body_budget=budget, trusted_keys=True)
    most = 0

    async with no_leaks(lanes), AsgiDriver(middleware) as driver:
        holders = [
            driver.start("POST", "/", headers={"x-key": f"{key}", "x-name": f"holder-{key}"}) for key in range(8)
        ]
        await settle()
        uploads: list[Upload] = []
        for number in range(count):
            body, key = rng.randbytes(rng.randrange(1, 2_000)), f"{number % 8}"
            started = driver.start("POST", "/", headers={"x-key": key, "x-name": f"{number}"}, body=None)
            uploads.append(Upload(f"{number}", key, body, pieces_of(rng, body, largest), started))

        async def send(upload: Upload) -> None:
            nonlocal most
            while upload.pieces and not upload.request.messages:
                piece = upload.pieces.popleft()
                await upload.request.send_body(piece, more=bool(upload.pieces))
                most = max(most, held_by(middleware))

        await asyncio.gather(*(send(upload) for upload in uploads))
        await settle()
        assert held_by(middleware) <= budget
        for name in [*(f"holder-{key}" for key in range(8)), *(upload.name for upload in uploads)]:
            app.go(name).set()
        for upload in uploads:
            upload.state = "refused" if (await upload.request.response()).status == 503 else "served"
            await judge(upload, app)
        assert all([(await holder.response()).status == 200 for holder in holders])
    refused = sum(upload.state == "refused" for upload in uploads)
    print(f"{count} at once: {refused} refused, at most {most} bytes held of {budget}")
    assert 0 < refused < count, f"--seed={seed}: {refused} of {count} refused"
    assert budget // 2 < most <= budget + largest
    assert held_by(middleware) == 0


async def test_who_is_refused_takes_nobody_down() -> None:
    """Its bytes are no longer held once it is refused: who comes in the same moment, and fits, is served."""
    app, lanes = BodyApp(), Lanes()
    middleware = LaneMiddleware(app, key="x-key", lanes=lanes, body_budget=100, trusted_keys=True)
    async with no_leaks(lanes), AsgiDriver(middleware) as driver:
        named = {
            name: driver.start("POST", "/", headers={"x-key": "k", "x-name": name}, body=body)
            for name, body in {"holder": b"", "first": b"x" * 60, "beyond": None, "fits": None}.items()
        }
        await settle()
        await asyncio.gather(
            named["beyond"].send_body(b"y" * 50, more=False), named["fits"].send_body(b"z" * 30, more=False)
        )
        await settle()
        assert held_by(middleware) == 90
        for name in named:
            app.go(name).set()
        statuses = {name: (await each.response()).status for name, each in named.items()}
    assert statuses == {"holder": 200, "first": 200, "beyond": 503, "fits": 200}
    assert app.bodies["fits"] == b"z" * 30


async def test_a_callable_may_live_without_room() -> None:
    """What it answers when it is told `CapacityExceeded` counts, and the app has the whole body."""

    async def find(connection: Any) -> str:
        try:
            await connection.body()
        except CapacityExceeded:
            return "no-room"
        raise AssertionError("there was room")

    app, lanes = BodyApp(free=True), Lanes()
    middleware = LaneMiddleware(app, key=find, lanes=lanes, body_budget=10, trusted_keys=True)
    async with no_leaks(lanes), AsgiDriver(middleware) as driver:
        upload = driver.start("POST", "/", headers={"x-name": "it"}, body=None)
        for chunk in (b"a" * 9, b"b" * 2, b"c"):
            await upload.send_body(chunk)
        await upload.send_body(b"d", more=False)
        assert (await upload.response()).status == 200
    assert app.bodies == {"it": b"a" * 9 + b"bbcd"}
    assert held_by(middleware) == 0


def document(key: str, size: int) -> bytes:
    """Return a JSON document of just that many bytes, with a key in it."""
    empty = len(json.dumps({"session": key, "text": ""}))
    return json.dumps({"session": key, "text": "x" * (size - empty)}).encode()


def digest_of(body: bytes) -> str:
    """Return what the app answers for a body."""
    return hashlib.sha256(body).hexdigest()


def in_chunks(body: bytes, size: int) -> bytes:
    """Return a body as chunked transfer encoding has it."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the digest of the body and the key of the turn."""
    assert scope["type"] == "http"
    digest, more = hashlib.sha256(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message.get("body", b""))
        more = message.get("more_body", False)
    turn = scope["state"]["turn"]
    text = json.dumps({"digest": digest.hexdigest(), "key": turn.key}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


async def answer_of(port: int, body: bytes, *, key: str, chunked: bool = False) -> Answer:
    """Send one request on a connection of its own and return the answer."""
    async with connected(port) as connection:
        if chunked:
            data = request("/", None, x_key=key, transfer_encoding="chunked") + in_chunks(body, 1000)
        else:
            data = request("/", body, x_key=key)
        await connection.send(data)
        return await connection.answer()


@pytest.mark.sockets
@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize("where", ["header", "body"])
async def test_bodies_around_the_limit(where: str, http: str) -> None:
    """One byte below, at and above, declared and chunked, ten of each in one lane: 413 only with the key inside."""
    lanes = Lanes(policy=Enqueue(max_waiting=None))
    key: Any = keys.json_body("session") if where == "body" else "x-key"
    middleware = LaneMiddleware(echo, key=key, lanes=lanes, body_limit=LIMIT, trusted_keys=True)
    kinds = [(over, chunked) for over in (-1, 0, 1) for chunked in (False, True)] * 10
    allowed = sum(over < 1 or where == "header" for over, _ in kinds)
    async with uvicorn_serving(middleware, http=http) as port:
        bodies = [document("hot", LIMIT + over) for over, _ in kinds]
        with Gates(lanes.hooks) as gates:
            async with asyncio.TaskGroup() as tasks, lanes.turn("hot"):
                asked = [
                    tasks.create_task(answer_of(port, body, key="hot", chunked=chunked))
                    for body, (_, chunked) in zip(bodies, kinds, strict=True)
                ]
                await gates.at(TurnQueued).reached(allowed)
        answers = [task.result() for task in asked]
    for (over, chunked), body, answer in zip(kinds, bodies, answers, strict=True):
        case = f"{over:+} bytes, {'chunked' if chunked else 'declared'}"
        if where == "body" and over > 0:
            assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large"), case
        else:
            assert answer.status == 200, f"{case}: {answer}"
            assert answer.json() == {"digest": digest_of(body), "key": "hot"}, case
    assert held_by(middleware) == 0
    assert_no_leaks(lanes)


@pytest.mark.sockets
@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize("where", ["header", "body"])
async def test_clients_that_send_byte_by_byte_block_nobody_else(where: str, http: str) -> None:
    """Forty of them, half for one busy lane: other keys are served as if they were not there, and then they are."""
    lanes = Lanes(policy=Enqueue(max_waiting=None))
    key: Any = keys.json_body("session") if where == "body" else "x-key"
    middleware = LaneMiddleware(echo, key=key, lanes=lanes, body_limit=LIMIT, trusted_keys=True)
    slow_keys = [f"slow-{number}" for number in range(20)] + ["hot"] * 20
    bodies = [document(name, 60 + number) for number, name in enumerate(slow_keys)]
    begun, enough = asyncio.Semaphore(0), asyncio.Event()

    async def drip(port: int, name: str, body: bytes) -> Answer:
        async with connected(port) as connection:
            await connection.send(request("/", None, length=len(body), x_key=name))
            for number in range(len(body) - 1):
                await connection.send(body[number : number + 1])
                await asyncio.sleep(0.02)  # the pace of this client; nothing waits for it
                if number == 5:
                    begun.release()
            await enough.wait()
            await connection.send(body[-1:])
            return await connection.answer()

    async with uvicorn_serving(middleware, http=http) as port:
        async with asyncio.TaskGroup() as tasks, lanes.turn("hot"):
            slow = [tasks.create_task(drip(port, *each)) for each in zip(slow_keys, bodies, strict=True)]
            for _ in slow:
                await begun.acquire()
            statistics = lanes.statistics()
            # With the key in a header they have, or wait for, their lanes; with the key in the body none has one yet.
            assert (statistics.running, statistics.waiting) == ((21, 20) if where == "header" else (1, 0))
            quick_keys = [f"quick-{number % 7}" for number in range(50)] + (slow_keys[:5] if where == "body" else [])
            for name in quick_keys:
                body = document(name, 500)
                answer = await answer_of(port, body, key=name)
                assert answer.json() == {"digest": digest_of(body), "key": name}
                assert (answer.headers["x-turnlane-position"], answer.headers["x-turnlane-waited-ms"]) == ("0", "0")
            assert held_by(middleware) > 0
            assert not any(task.done() for task in slow)
            enough.set()
        answers = [task.result().json() for task in slow]
    assert answers == [{"digest": digest_of(body), "key": name} for name, body in zip(slow_keys, bodies, strict=True)]
    assert held_by(middleware) == 0
    assert_no_leaks(lanes)


@pytest.mark.sockets
@pytest.mark.parametrize("http", PARSERS)
async def test_slow_clients_that_leave_give_their_room_back(http: str) -> None:
    """Half a body each, then gone: nothing stays held, no lane stays in use, and the next request is served."""
    lanes = Lanes(policy=Enqueue(max_waiting=None))
    middleware = LaneMiddleware(echo, key="x-key", lanes=lanes, body_limit=LIMIT, trusted_keys=True)
    body = document("hot", 1_000)
    async with uvicorn_serving(middleware, http=http) as port:
        with Gates(lanes.hooks) as gates:
            async with lanes.turn("hot"), AsyncExitStack() as stack:
                leaving = [await stack.enter_async_context(connected(port)) for _ in range(30)]
                for connection in leaving:
                    await connection.send(request("/", body[:500], length=len(body), x_key="hot"))
                await gates.at(TurnQueued).reached(len(leaving))
                for connection in leaving:
                    connection.leave()
                await gates.at(TurnRefused, where=lambda event: event.reason == "client_gone").reached(len(leaving))
                assert lanes.statistics().waiting == 0
        answer = await answer_of(port, body, key="hot")
        assert answer.json() == {"digest": digest_of(body), "key": "hot"}
    assert held_by(middleware) == 0
    assert_no_leaks(lanes)
