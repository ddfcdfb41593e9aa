"""One request on its way through a lane: whose turn it is, the wait, the session, the app, the end."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
from functools import partial
from typing import Any, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turnlane import errors
from turnlane.asgi.answering import answer, answer_failed, answer_nobody
from turnlane.asgi.asking import chain_brought, chosen_policy
from turnlane.asgi.body import ClientGone, RequestBody
from turnlane.asgi.connection import LaneConnection
from turnlane.asgi.deadlines import bounded_by_client
from turnlane.asgi.keepalive import Beats
from turnlane.asgi.messages import describe_body, is_shared, message_of, require_body, target_of, was_taken
from turnlane.asgi.once import Once
from turnlane.asgi.place import Place, lane_of, place_of
from turnlane.asgi.refusals import REFUSED
from turnlane.asgi.responder import LateResponder, Responder, headers_in_line
from turnlane.asgi.settings import Settings
from turnlane.asgi.sharing import Sharing, ask_for_plain
from turnlane.asgi.waiting import KeptWait
from turnlane.keys import param_of, principal_of_key
from turnlane.messages import HttpMessage
from turnlane.turns import Turn
from turnlane.turns.chain import BroughtChain
from turnlane.turns.context import _current, reset_current
from turnlane.turns.talk import Talk

__all__ = ("LanedRequest",)


class LanedRequest:
    """One request, from its arrival to the end of its turn.

    Mutable: `_policy`, `_chain`, `_message` and `_principal` (once it was asked), `_turn` (that waits or runs now),
    `_visible`, `_ended` (set when the response has ended; made only where somebody waits for it), `_sharing` (where
    others get it too), `_kept` (made where it waits and may be kept alive) and `_once` (for a message that may have
    arrived before), which take the place of `_send`, and of `_app`.
    """

    __slots__ = (
        "_app",
        "_arrived",
        "_body",
        "_chain",
        "_ended",
        "_kept",
        "_message",
        "_once",
        "_origin",
        "_policy",
        "_principal",
        "_scope",
        "_send",
        "_settings",
        "_sharing",
        "_turn",
        "_visible",
    )

    def __init__(
        self, settings: Settings, app: ASGIApp, scope: Scope, receive: Receive, send: Send, origin: object
    ) -> None:
        self._settings = settings
        self._app = app
        self._scope = scope
        self._send = send
        self._origin = origin
        self._body = RequestBody(scope, receive, limit=settings.body_limit, budget=settings.budget)
        self._arrived = settings.runtime.lanes.gate._monotonic()
        self._policy = settings.policy
        self._message: Any = None
        self._principal: str | None = None
        self._chain: BroughtChain | None = None
        self._turn: Turn | None = None
        self._visible = True
        self._ended: asyncio.Event | None = None
        self._sharing: Sharing | None = None
        self._kept: KeptWait | None = None
        self._once: Once | None = None

    async def run(self) -> None:
        """Run the request, in a lane if it belongs into one."""
        try:
            await self._run()
            if self._kept is not None:
                await self._kept.fail()
        except Exception:
            if self._kept is not None:
                await self._kept.fail()
            raise
        finally:
            try:
                if self._once is not None:
                    await self._once.leave(taken=self._turn is not None and was_taken(self._turn))
            finally:
                await self._body.aclose()

    async def _run(self) -> None:
        try:
            place = await place_of(self._settings, self._connection(param_of(self._settings.key)))
            if place is not None:
                if not await self._is_to_run(place):
                    return
                await self._ask(place)
        except ClientGone:
            await answer_nobody(self._send)
            return
        except REFUSED as error:
            self._body.forget()
            await answer(error, self._send, self._settings.runtime.lanes)
            return
        if place is None:
            await self._app(self._scope, self._body.hand_over(), self._send)
            return
        turn = await self._turn_of(place)
        if turn is not None:
            self._visible = place.visible
            await self._run_app(turn)

    # -- before the lane

    async def _is_to_run(self, place: Place) -> bool:
        """Tell whether the message of this request is to run; one that is not has its answer."""
        settings = self._settings
        if settings.duplicates is None:
            return True
        gate = settings.runtime.lanes.gate
        once = Once(settings.duplicates, gate, self._app, self._scope, self._body, self._send, self._stop)
        if not await once.enter(place.key, place.session_id):
            return False
        self._once, self._app, self._send = once, once.app, once.send
        return True

    async def _ask(self, place: Place) -> None:
        connection = self._connection("the body")
        self._policy = await chosen_policy(self._settings, connection)
        self._chain = await chain_brought(self._settings, connection)
        self._message, self._principal = await message_of(self._settings, self._policy, connection)
        if self._settings.key_tells_principal and place.session_id is None:
            self._principal = principal_of_key(place.key)

    def _connection(self, param: str) -> LaneConnection:
        return LaneConnection(self._scope, self._body, param)

    # -- the lane

    async def _turn_of(self, place: Place) -> Turn | None:
        """Return the turn once it runs, with its session; None once the request is over without having run."""
        runtime, gate, key = self._settings.runtime, self._settings.runtime.lanes.gate, place.key
        try:
            while not self._body.gone:
                turn = await self._started(key, place)
                try:
                    stays = await self._is_to_stay(turn, place)
                    if stays:
                        self._carry(turn)
                except BaseException as error:
                    replacement = gate.leave(turn, error)
                    if replacement is not None:
                        raise replacement from error
                    raise
                if stays:
                    return turn
                gate.leave(turn, asyncio.CancelledError())
                if place.session_id is not None and not self._body.gone:
                    key = await lane_of(
                        self._settings, place.session_id
                    )  # the id went to another key while this turn waited
        except ClientGone:
            pass
        except REFUSED as error:
            self._body.forget()
            if self._once is not None and isinstance(error, errors.TurnRedirected):
                await self._once.take_over()
            await answer(error, self._send, runtime.lanes, redirect_status=self._settings.redirect_status)
            return None
        await answer_nobody(self._send)
        return None

    async def _is_to_stay(self, turn: Turn, place: Place) -> bool:
        """Give a turn that has its lane what it needs; False if its client has left or its session is elsewhere."""
        # It may have left in the moment the lane was handed over, or while its session is looked up.
        stays = await self._body.look_again() and await self._settings.runtime.enter_session(
            turn, session_id=place.session_id, visible=place.visible
        )
        if stays and not self._body.gone and self._once is not None:
            await self._once.begin()
        return stays and not self._body.gone

    async def _started(self, key: str, place: Place) -> Turn:
        settings, gate = self._settings, self._settings.runtime.lanes.gate
        passed = gate._monotonic() - self._arrived
        policy = bounded_by_client(self._policy, self._scope, passed=passed)
        talk = None
        if self._message is not None or self._principal is not None:
            talk = Talk(self._message, self._principal, target_of(self._scope, self._message, policy, place))
            talk.require = partial(require_body, has_message=settings.message is not None)
        self._turn = turn = gate.arrive(
            key, policy, settings.turn_timeout, origin=self._origin, chain=self._chain, talk=talk
        )
        if turn._wait is not None:
            self._body.watch(self._stop)
            if settings.beats is None:
                await gate.wait(turn)
            else:
                await self._wait_kept(turn, place, settings.beats)
        return turn

    async def _wait_kept(self, turn: Turn, place: Place, beats: Beats) -> None:
        if self._kept is None:
            self._kept = KeptWait(beats, self._scope, self._body, self._send)
        session_id = place.session_id if place.visible else None
        headers = headers_in_line(turn, session_id) if self._settings.headers else ()
        try:
            await self._kept.wait(self._settings.runtime.lanes.gate, turn, headers)
        finally:
            self._send = self._kept.send

    def _carry(self, turn: Turn) -> None:
        """Answer the messages of a group too, if the turn is that of one."""
        self._settings.runtime.lanes.gate.begin_carrying(turn)
        merged = turn.message
        if merged is not self._message and isinstance(merged, HttpMessage):
            self._body.replace(merged.body)
            describe_body(self._scope, merged)

    def _stop(self, error: errors.CapacityExceeded | ClientGone) -> None:
        reason = "client_gone" if isinstance(error, ClientGone) else "capacity"
        if self._turn is not None and self._settings.runtime.lanes.gate.expel(self._turn, error, reason):
            self._body.forget()

    # -- the app

    async def _run_app(self, turn: Turn) -> None:
        settings = self._settings
        shown = turn if settings.headers else None
        receive = self._body.hand_over()
        shared = is_shared(turn)
        deaf = settings.finish_without_client or shared  # others wait for the response, if its own client does not
        if settings.release_at_response_end or deaf:
            self._ended = asyncio.Event()
            receive = self._deaf(receive) if deaf else receive
            responder: Responder = LateResponder(at_end=self._response_ended, deaf=deaf)
        else:
            responder = Responder()
        send = self._send
        if shared:
            ask_for_plain(self._scope)
            self._sharing = Sharing(send, limit=settings.body_limit)
            send = self._sharing.send
        responder.prepare(send, shown, show_session=self._visible and settings.runtime.sessions is not None)
        failure: BaseException | None = None
        context = _current.set(turn)
        try:
            place_turn(self._scope, turn)
            await self._app(self._scope, receive, responder.send)
        except BaseException as error:  # noqa: BLE001  raised again below, unless it is told to the client
            failure = error
        try:
            reset_current(context)
            failure = await self._leave(failure)
            if failure is not None:
                await answer_failed(
                    failure, responder, settings.runtime.lanes, redirect_status=settings.redirect_status
                )
        finally:
            failure = None  # it knows this frame

    async def _leave(self, failure: BaseException | None) -> BaseException | None:
        turn, runtime = cast("Turn", self._turn), self._settings.runtime
        if not turn.running:  # the lane went with the response
            return runtime.lanes.gate.settle_late(turn, failure) or failure
        try:
            await runtime.leave_session(turn, visible=self._visible)
        except BaseException as error:  # noqa: BLE001  the lane goes first; it is raised after that
            failure = error if failure is None else failure
        if self._sharing is not None:
            turn.share(self._sharing.answer())
        replacement = runtime.lanes.gate.leave(turn, failure)
        if replacement is not None:
            replacement.__cause__ = failure
        return replacement or failure

    async def _response_ended(self) -> None:
        if self._ended is not None:
            self._ended.set()
        if self._settings.release_at_response_end:
            failure = await self._leave(None)
            if failure is not None:
                raise failure

    def _deaf(self, receive: Receive) -> Receive:
        complete = False

        async def hear() -> Message:
            nonlocal complete
            message = await receive()
            if message["type"] == "http.request":
                complete = not message.get("more_body", False)
            elif message["type"] == "http.disconnect" and complete and self._ended is not None:
                await self._ended.wait()
            return message

        return hear


def place_turn(scope: Scope, turn: Turn) -> None:
    """Put the turn where `request.state.turn` finds it."""
    state = scope.get("state")
    if state is None:
        scope["state"] = {"turn": turn}
    else:
        state["turn"] = turn
