"""Runs traffic through the middleware, on a seeded loop, and says what went wrong."""

# pyright: reportPrivateUsage=false

import asyncio
import contextvars
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from races.far_ends import Client, SlowStore
from races.runner import MakeLanes, Result, plain_lanes, run_whole
from races.traffic import Incident, Traffic
from support.lanes_invariants import broken_promises, leftovers
from support.seeded_loop import LoopClock, SeededLoop, until_blocked
from turnlane import Interrupt, LaneMiddleware, Reject, Rollback, Runtime, Sessions, Turn, current_turn, errors, keys
from turnlane.policies import Policy

__all__ = ("TrafficRun", "run_traffic")

KEY = "x-session-key"

# Passes of the loop within which a client that has left must have left the line too.
PATIENCE = 20


class TrafficRun:
    """One run of traffic. The detectors are those of `LanesRun`: a mark of the app's own, and the table's holder."""

    def __init__(
        self, traffic: Traffic, loop: SeededLoop, make_lanes: MakeLanes, incidents: Sequence[Incident]
    ) -> None:
        self.traffic = traffic
        self.loop = loop
        self.lanes = make_lanes(traffic.max_running, LoopClock(loop))
        self.wrong: list[str] = []
        self.clients = [Client(number, call) for number, call in enumerate(traffic.calls)]
        self.inside: dict[str, Client] = {}
        self.order: dict[str, list[int]] = {}
        self.tokens: dict[str, list[int]] = {}
        self.session_ids: dict[str, set[str | None]] = {}
        self.arrivals = 0
        sessions = {"none": None, "memory": "memory://", "slow": Sessions(SlowStore())}[traffic.sessions]
        runtime = Runtime(lanes=self.lanes, sessions=sessions)
        self.middleware = LaneMiddleware(
            self.app,
            key=KEY if traffic.key_in == "header" else keys.json_body("session"),
            runtime=runtime,
            policy=self._policy_of if traffic.mixed else traffic.policy,
            turn_timeout=traffic.turn_timeout,
            release_on=traffic.release_on,
            on_disconnect=traffic.on_disconnect,
            trusted_keys=True,
        )
        for incident in incidents:
            happen = self._leave if incident.what == "leave" else self._cancel
            loop.before(incident.step, partial(happen, self.clients[incident.call]))

    async def main(self) -> None:
        """Make every request, wait until every task has ended."""
        loop = asyncio.get_running_loop()
        for client in self.clients:
            client.task = loop.create_task(self._request(client), context=contextvars.Context())
        senders = [loop.create_task(self._send_body(client)) for client in self.clients]
        tasks = [client.task for client in self.clients if client.task is not None]
        await asyncio.wait([*tasks, *senders])
        await until_blocked()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            self.wrong.append(f"tasks are left: {left}")

    def result(self) -> Result:
        """Return what the run took."""
        return Result(self.loop.steps, len(self.clients), {})

    # -- the server

    async def _request(self, client: Client) -> None:
        await _passes(client.call.delay)
        headers = [(b"content-type", b"application/json"), (b"x-number", b"%d" % client.number)]
        if self.traffic.key_in == "header":
            headers.append((KEY.encode(), client.call.key.encode()))
            self._arrive(client)
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "headers": headers,
            "client": ("127.0.0.1", 50_000 + client.number),
            "extensions": {},
        }

        async def receive() -> Message:
            return await self._receive(client)

        async def send(message: Message) -> None:
            await self._send(client, message)

        try:
            await self.middleware(scope, receive, send)
        except asyncio.CancelledError as error:
            client.failure = error
            if not client.cancelled and not self.loop.ending:
                self.wrong.append(f"request {client.number} was cancelled by nobody")
        except Exception as error:
            client.failure = error
        task = asyncio.current_task()
        if task is not None and task.cancelling() and not client.cancelled and not self.loop.ending:
            self.wrong.append(f"a cancellation of request {client.number} was not taken back")

    async def _send_body(self, client: Client) -> None:
        await _passes(client.call.delay)
        parts = max(1, client.call.parts)
        size = -(-len(client.body) // parts)
        for part in range(parts):
            await _passes(client.call.gap if part else 0)
            if client.left:
                return
            chunk = client.body[part * size : (part + 1) * size]
            client.give({"type": "http.request", "body": chunk, "more_body": part < parts - 1})

    async def _receive(self, client: Client) -> Message:
        while not client.incoming:
            if client.left:
                self._bar(client)
                return {"type": "http.disconnect"}
            if client.whole:
                return {"type": "http.disconnect"}
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            client.changed.append(changed)
            await changed
        message = client.incoming.popleft()
        if self.traffic.key_in == "json" and client.arrived is None and not message["more_body"]:
            self._arrive(client)
        return message

    async def _send(self, client: Client, message: Message) -> None:
        if not client.left:
            client.messages.append(message)
            client.wake()
        await asyncio.sleep(0)

    def _arrive(self, client: Client) -> None:
        self.arrivals += 1
        client.arrived, client.left_in_pass = self.arrivals, self.loop.passes

    def _leave(self, client: Client) -> None:
        client.leave(self.loop.passes)

    def _cancel(self, client: Client) -> None:
        if client.task is not None and client.task.cancel():
            client.cancelled = True
            self._bar(client)

    def _bar(self, client: Client) -> None:
        """Whoever is cancelled, or was heard to have left, before the app was called never gets there."""
        client.barred = not client.began

    def _policy_of(self, connection: Any) -> Policy:
        return self.traffic.policy_of(int(connection.headers["x-number"]))

    # -- the app

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, answer in three messages."""
        number = int(dict(scope["headers"])[b"x-number"])
        client, turn = self.clients[number], scope["state"]["turn"]
        self._begin(client, turn)
        try:
            if client.call.listens:
                await self._answer_and_listen(client, receive, send)
            else:
                await self._answer(client, receive, send)
            if self.traffic.release_on == "app_return":
                await self._pass(client, client.call.after)
        finally:
            self._end(client)
        if self.traffic.release_on == "response_end":
            await _passes(client.call.after)

    async def _answer(self, client: Client, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        if body != client.body:
            self.wrong.append(f"request {client.number} was replayed as {body!r}, it was {client.body!r}")
        await self._reply(client, send)

    async def _answer_and_listen(self, client: Client, receive: Receive, send: Send) -> None:
        """As the streaming responses of frameworks: whoever of the two is first ends the other."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        if body != client.body:
            self.wrong.append(f"request {client.number} was replayed as {body!r}, it was {client.body!r}")
        both = [asyncio.ensure_future(self._reply(client, send)), asyncio.ensure_future(_until_gone(receive))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)
        for task in both:
            if not task.cancelled():
                task.result()

    async def _reply(self, client: Client, send: Send) -> None:
        await self._pass(client, client.call.hold)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await self._pass(client, client.call.hold)
        await send({"type": "http.response.body", "body": b"answer ", "more_body": True})
        await asyncio.sleep(client.call.sleep)
        await self._pass(client, client.call.hold)
        if self.traffic.release_on == "response_end":
            self._end(client)
        await send({"type": "http.response.body", "body": b"%d" % client.number, "more_body": False})

    async def _pass(self, client: Client, passes: int) -> None:
        for _ in range(passes):
            await asyncio.sleep(0)
            self._still_there(client)

    # -- the detectors

    def _begin(self, client: Client, turn: Turn) -> None:
        key, other = client.call.key, self.inside.get(client.call.key)
        if other is not None:
            self.wrong.append(f"request {client.number} is in the app beside {other.number}")
        if client.began or client.barred:
            self.wrong.append(f"request {client.number} reached the app {'again' if client.began else 'after it left'}")
        if current_turn() is not turn or turn.key != key:
            self.wrong.append(f"request {client.number} has {turn}, the current turn is {current_turn()}")
        self._look_for_the_patient(key)
        client.began = True
        self.inside[key] = client
        self._still_there(client)
        self.order.setdefault(key, []).append(client.arrived or 0)
        tokens = self.tokens.setdefault(key, [0])
        if turn.token <= tokens[-1]:
            self.wrong.append(f"the token of {turn} does not grow: {tokens}")
        tokens.append(turn.token)
        self.session_ids.setdefault(key, set()).add(None if turn.session is None else turn.session.id)

    def _end(self, client: Client) -> None:
        if self.inside.get(client.call.key) is client:
            self._still_there(client)
            self._look_for_the_patient(client.call.key)
            del self.inside[client.call.key]

    def _look_for_the_patient(self, key: str) -> None:
        for client in self.clients:
            waits = client.call.key == key and client.arrived is not None and not client.began and not client.ended
            if waits and client.left and self.loop.passes - client.left_in_pass > PATIENCE:
                self.wrong.append(f"request {client.number} still stands in line although its client has left")

    def _still_there(self, client: Client) -> None:
        key = client.call.key
        if self.inside.get(key) is not client:
            self.wrong.append(f"{self.inside.get(key)} is in the app beside request {client.number}")
        if key not in self.lanes.gate.table.holders:
            self.wrong.append(f"request {client.number} is in the app and nobody holds {key!r}")

    def look_inside(self) -> None:
        """Check the table; called after every step of the loop."""
        if not self.wrong:
            self.wrong += broken_promises(self.lanes.gate.table)

    # -- the end

    def check_end(self) -> None:
        """Check what must hold when every request has ended."""
        self.wrong += leftovers(self.lanes)
        if self.loop.armed():
            self.wrong.append(f"timers are armed while nobody waits: {self.loop.armed()}")
        held = self.middleware._settings.budget.held
        if held:
            self.wrong.append(f"{held} bytes of bodies are held by nobody")
        for key, order in self.order.items():
            if order != sorted(order):
                self.wrong.append(f"requests of {key!r} reached the app in this order of arrival: {order}")
        for key, ids in self.session_ids.items():
            if len(ids) != 1 or (None in ids) is not (self.traffic.sessions == "none"):
                self.wrong.append(f"{key!r} had these sessions: {ids}")
        for client in self.clients:
            if not client.left and not client.cancelled:
                self._check_answer(client)
            elif client.failure is not None and not self._may_fail(client):
                self.wrong.append(f"request {client.number} failed with {client.failure!r}")

    def _check_answer(self, client: Client) -> None:
        if client.failure is not None:
            # What was interrupted after its response had begun is broken off by the server.
            if not self._may_end_early(client.failure) or not client.messages:
                self.wrong.append(f"request {client.number} failed with {client.failure!r}")
        elif not client.whole:
            self.wrong.append(f"request {client.number} stayed and got {client.messages}")
        elif client.status == 200:
            if client.answer != b"answer %d" % client.number:
                self.wrong.append(f"request {client.number} got the answer {client.answer!r}")
        elif json.loads(client.answer)["error"]["code"] not in self._refusals():
            self.wrong.append(f"request {client.number} was refused: {client.answer!r}")

    def _may_end_early(self, failure: BaseException) -> bool:
        if isinstance(failure, errors.TurnInterrupted):
            return any(isinstance(policy, Interrupt) for policy in self.traffic.policies)
        return isinstance(failure, errors.TurnTimeout) and self.traffic.turn_timeout is not None

    def _may_fail(self, client: Client) -> bool:
        cancelled = isinstance(client.failure, asyncio.CancelledError) and client.cancelled
        return cancelled or (client.failure is not None and self._may_end_early(client.failure))

    def _refusals(self) -> set[str]:
        expected: set[str] = set()
        for policy in self.traffic.policies:
            if isinstance(policy, Reject):
                expected |= {"lane_busy", "capacity"}
            elif isinstance(policy, Interrupt | Rollback):
                expected.add("turn_interrupted")
            elif policy.max_waiting is not None:
                expected |= {"lane_full", "capacity"}
            if not isinstance(policy, Reject) and policy.wait_timeout is not None:
                expected.add("wait_timeout")
        if self.traffic.turn_timeout is not None:
            expected.add("turn_timeout")
        return expected


async def _passes(passes: int) -> None:
    for _ in range(passes):
        await asyncio.sleep(0)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def run_traffic(
    traffic: Traffic,
    seed: int | None,
    incidents: Sequence[Incident] = (),
    *,
    make_lanes: MakeLanes = plain_lanes,
    look_inside: bool = True,
) -> Result:
    """Run traffic once; `seed` draws the order of the loop, None is the order of a plain loop.

    Raises:
        Finding: a promise was broken.
    """
    return run_whole(
        lambda loop: TrafficRun(traffic, loop, make_lanes, incidents),
        seed,
        look_inside=look_inside,
        again=lambda: f"again: run_traffic({traffic}, {seed}, {list(incidents)})",
    )
