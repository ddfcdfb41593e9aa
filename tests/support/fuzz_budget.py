"""Uploads that wait for their lanes, step by step, beside a model of what the middleware holds of them."""

# The budget of a middleware is private; what it holds is what is tested.
# pyright: reportPrivateUsage=false

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random
from typing import Any

from turnlane import Enqueue, LaneMiddleware, Lanes
from turnlane.testing import AsgiDriver, HttpRequest

__all__ = ("BodyApp", "Upload", "Uploads", "held_by", "pieces_of", "settle")

PASSES = 30  # of the loop, in which everything has happened that happens by itself


class BodyApp:
    """Reads the whole body, waits until it may go on, and answers with how many bytes there were.

    Attributes:
        bodies: what each request brought, by its `x-name`; only whole ones.
        free: whether requests go on without waiting.
    """

    def __init__(self, *, free: bool = False) -> None:
        self.bodies: dict[str, bytes] = {}
        self.free = free
        self._go: dict[str, asyncio.Event] = {}

    def go(self, name: str) -> asyncio.Event:
        """Return the event a request waits for when it has its body."""
        return self._go.setdefault(name, asyncio.Event())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        name = dict(scope["headers"]).get(b"x-name", b"").decode()
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies[name] = bytes(body)
        if not self.free:
            await self.go(name).wait()
        text = b"%d" % len(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
        await send({"type": "http.response.body", "body": text})


def held_by(middleware: LaneMiddleware) -> int:
    """Return how many bytes of bodies a middleware holds now."""
    return middleware._settings.budget.held


def pieces_of(rng: Random, body: bytes, largest: int) -> deque[bytes]:
    """Return a body in pieces of random size, some of them empty."""
    pieces: deque[bytes] = deque()
    while body:
        size = rng.randrange(largest + 1)
        pieces.append(body[:size])
        body = body[size:]
    return pieces or deque([b""])


async def settle() -> None:
    """Let everything happen that happens by itself."""
    for _ in range(PASSES):
        await asyncio.sleep(0)


@dataclass(eq=False, slots=True)
class Upload:
    """One request and what the model knows of it: `held` bytes while it waits, `pieces` not yet sent."""

    name: str
    key: str
    body: bytes
    pieces: deque[bytes]
    request: HttpRequest
    state: str = "waiting"
    held: int = 0
    whole: bool = False


@dataclass(slots=True)
class Uploads:
    """Random steps, each with what has to follow from it.

    Mutable: `lines` (by key, the first one runs), `seen` (how often what happened).
    """

    rng: Random
    budget: int
    limit: int
    app: BodyApp = field(default_factory=BodyApp)
    lines: dict[str, deque[Upload]] = field(default_factory=dict[str, deque[Upload]])
    all: list[Upload] = field(default_factory=list[Upload])
    seen: Counter[str] = field(default_factory=Counter[str])
    lanes: Lanes = field(default_factory=lambda: Lanes(policy=Enqueue(max_waiting=None, wait_timeout=None)))

    def middleware(self) -> LaneMiddleware:
        """Return the middleware under test."""
        return LaneMiddleware(
            self.app,
            key="x-key",
            lanes=self.lanes,
            body_limit=self.limit,
            body_budget=self.budget,
            trusted_keys=True,
        )

    @property
    def held(self) -> int:
        """What the middleware has to hold now."""
        return sum(upload.held for upload in self.alive if upload.state == "waiting")

    @property
    def alive(self) -> list[Upload]:
        """Who waits or runs."""
        return [upload for line in self.lines.values() for upload in line]

    async def step(self, driver: AsgiDriver, *, keys: int, open_at_most: int) -> None:
        """Do one random thing, and let it have its effect."""
        rng, alive = self.rng, self.alive
        choice = rng.random()
        sending = [upload for upload in alive if upload.pieces]
        if len(alive) < open_at_most and (choice < 0.25 or not alive):
            self._arrive(driver, f"key-{rng.randrange(keys)}")
        elif choice < 0.28 and alive:
            self._leave(rng.choice(alive))
        elif choice < 0.31 and alive:
            await self._cancel(rng.choice(alive))
        elif choice < 0.36 or not sending:
            self._finish()
        else:
            await self._send(rng.choice([each for each in sending if each.state == "waiting"] or sending))
        await settle()

    def _arrive(self, driver: AsgiDriver, key: str) -> None:
        rng = self.rng
        size = rng.choice((0, self.limit - 1, self.limit, self.limit + 1, rng.randrange(2 * self.limit)))
        name, body = f"upload-{len(self.all)}", rng.randbytes(size)
        request = driver.start("POST", "/", headers={"x-key": key, "x-name": name}, body=None)
        upload = Upload(name, key, body, pieces_of(rng, body, self.limit // 3), request)
        self.all.append(upload)
        line = self.lines.setdefault(key, deque())
        line.append(upload)
        if line[0] is upload:
            upload.state = "running"

    async def _send(self, upload: Upload) -> None:
        piece = upload.pieces.popleft()
        upload.whole = not upload.pieces
        await upload.request.send_body(piece, more=not upload.whole)
        if upload.state == "waiting" and upload.held <= self.limit:
            if self.held + len(piece) > self.budget:
                self._end(upload, "refused")
            else:
                upload.held += len(piece)
                self.seen["beyond body_limit"] += upload.held > self.limit

    def _leave(self, upload: Upload) -> None:
        # Who waits with a body beyond the limit is not listened to, and a whole body lets the app not listen.
        unheard = upload.held > self.limit if upload.state == "waiting" else upload.whole
        if not unheard:
            upload.request.disconnect()
            self._end(upload, "left")

    async def _cancel(self, upload: Upload) -> None:
        await upload.request.cancel()
        self._end(upload, "cancelled")

    def _finish(self) -> None:
        done = [line[0] for line in self.lines.values() if line and line[0].whole]
        if done:
            upload = self.rng.choice(done)
            self.app.go(upload.name).set()
            self._end(upload, "served")

    def _end(self, upload: Upload, state: str) -> None:
        self.seen[f"{state} while {upload.state}"] += 1
        upload.state = state
        line = self.lines[upload.key]
        line.remove(upload)
        if line and line[0].state == "waiting":
            line[0].state = "running"

    async def let_all_go(self, driver: AsgiDriver) -> None:
        """Send what is missing of every body, and let every turn end."""
        while self.alive:
            for upload in self.alive:
                if upload.pieces and upload.state == "running":
                    await self._send(upload)
            self._finish()
            await settle()
