"""Keep-alive: who waits in line for a stream gets a comment line now and then, so that no proxy gives up on it."""

import asyncio
import math
from collections import OrderedDict
from dataclasses import dataclass

from turnlane.arguments import seconds

__all__ = ("Beats", "KeepAlive", "beats_from_setting")

AT_ONCE = 64  # who arrived together is woken in parts, so that others get their turn of the loop in between


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Keeps the connection of a request alive while it waits in line for a stream.

    Only for a request that asked for a stream: `"stream": true` in the object that its JSON body is, or, where the
    body has no such member that is true or false, an `Accept` header that names `text/event-stream` and nothing else.
    And only once its body has been read to the end: one longer than `body_limit` gets no keep-alive.

    Guarantees: nothing is sent in the silent window, so that a refusal in it is a real response with its status and
    headers. After it come status 200, `content-type: text/event-stream`, what is known of the `x-turnlane-*` headers
    and of `x-session-id` by then (never `x-turnlane-waited-ms`), and the comment line `: queued`, which is repeated
    until the turn starts. The events of the app follow byte for byte. A refusal after that, an error of the app or a
    response that is no stream of events ends the stream with an error event, which the OpenAI and Anthropic clients
    raise; they do not send the request again.

    Not guaranteed: the app's other headers. Once comment lines were sent, all headers of its response are lost,
    `set-cookie` and those of middlewares inside among them (CORS belongs outside), and so are its early hints and
    trailers. The app then sees no `accept-encoding`, so that what it answers is not compressed; what is compressed all
    the same is told as an error. A middleware outside that buffers, or compresses streams of events, holds the comment
    lines back. Some parsers made by hand know no comments. An answer in JSON to who asked for a stream is lost: switch
    it on where streams are answered with streams.

    Args:
        after: seconds of the silent window, from arrival; 0 for none.
        every: seconds from one comment line to the next. Proxies in use give up after 30 s of silence and more.

    Raises:
        ValueError: one of them is no such number.
    """

    after: float = 10.0
    every: float = 15.0

    def __post_init__(self) -> None:
        for name, above_zero in (("after", False), ("every", True)):
            found = seconds(name, getattr(self, name), above_zero=above_zero)
            if math.isinf(found):
                raise ValueError(f"{name} must be a finite number of seconds; keepalive=None is none at all")
            object.__setattr__(self, name, found)


def beats_from_setting(setting: object) -> "Beats | None":
    """Return the beats a setting stands for: a `KeepAlive`, the seconds of its `after`, or None.

    Raises:
        ValueError: it is none of these.
    """
    if setting is None:
        return None
    if isinstance(setting, KeepAlive):
        return Beats(setting)
    if isinstance(setting, bool) or not isinstance(setting, int | float):
        raise ValueError(f"keepalive must be a KeepAlive, the seconds of its silent window, or None, not {setting!r}")
    try:
        return Beats(KeepAlive(after=setting))
    except ValueError as error:
        raise ValueError(f"keepalive: {error}") from None


class Beats:
    """Wakes those who wait, in the rhythm of a `KeepAlive`: a timer for the first beat and one for all that follow.

    No task is made for it, and no timer is armed while nobody waits.

    Mutable: `_rhythms`, by seconds, of those somebody sleeps in; they belong to the loop of who came last.
    """

    __slots__ = ("_rhythms", "setting")

    def __init__(self, setting: KeepAlive) -> None:
        self.setting: KeepAlive = setting
        self._rhythms: dict[float, Rhythm] = {}

    def __repr__(self) -> str:
        return f"<Beats {self.setting} waiting={sum(len(rhythm.sleepers) for rhythm in self._rhythms.values())}>"

    async def sleep(self, over: "asyncio.Future[BaseException | None]", *, first: bool) -> bool:
        """Sleep to the next beat, or until `over` is done; tell whether it is not."""
        loop = asyncio.get_running_loop()
        alarm: asyncio.Future[None] = loop.create_future()

        def wake(_: object) -> None:
            if not alarm.done():
                alarm.set_result(None)

        pause = self.setting.after if first else self.setting.every
        rhythm = self._rhythms.get(pause)
        if rhythm is None or rhythm.loop is not loop:
            rhythm = self._rhythms[pause] = Rhythm(loop, pause)
        over.add_done_callback(wake)
        rhythm.add(alarm)
        try:
            await alarm
        finally:
            over.remove_done_callback(wake)
            rhythm.discard(alarm)
            if not rhythm.sleepers and self._rhythms.get(pause) is rhythm:
                del self._rhythms[pause]
        return not over.done()


class Rhythm:
    """Those who sleep for the same number of seconds: they wake in the order in which they came.

    Mutable: `sleepers`, with the time each is due; `_timer`, armed while there are any.
    """

    __slots__ = ("_pause", "_timer", "loop", "sleepers")

    def __init__(self, loop: asyncio.AbstractEventLoop, pause: float) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.sleepers: OrderedDict[asyncio.Future[None], float] = OrderedDict()
        self._pause = pause
        self._timer: asyncio.TimerHandle | None = None

    def add(self, alarm: "asyncio.Future[None]") -> None:
        """Let `alarm` ring after the pause."""
        self.sleepers[alarm] = due = self.loop.time() + self._pause
        if self._timer is None:
            self._timer = self.loop.call_at(due, self._ring)

    def discard(self, alarm: "asyncio.Future[None]") -> None:
        """Forget an alarm, if it has not rung."""
        self.sleepers.pop(alarm, None)
        if not self.sleepers and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        now = self.loop.time()
        for _ in range(AT_ONCE):
            if not self.sleepers:
                self._timer = None
                return
            alarm, due = next(iter(self.sleepers.items()))
            if due > now:
                break
            del self.sleepers[alarm]
            if not alarm.done():
                alarm.set_result(None)
        else:
            due = now
        self._timer = self.loop.call_at(due, self._ring)
