"""How the scripts are asked, and what their errors become."""

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import cast

from turnlane.engines.base import SECRET_BYTES, Alive, LaneView, Note
from turnlane.engines.redis.scripts import BUCKETS, SCRIPTS, Names
from turnlane.engines.redis.wire import Argument, key_in, key_out, note_in, view_in
from turnlane.errors import EngineUnavailable, OutcomeUnknown
from turnlane.redis import Forked, Packed, RedisClient, Refused, Unreachable, packed

__all__ = ("FORKED", "Asking", "Translated")

FORKED = "it was opened before this process was forked; make the lanes, or use them first, after the fork"
TOGETHER = 200  # lanes or tickets in one script, some milliseconds


class Asking:
    """The scripts of one engine.

    Mutable: `_worker`, for which there was a step last, and `_common`, what all steps of it have in common.

    Args:
        client: that runs them.
        prefix: of all keys.
        lease: seconds.
        in_cluster: whether a script can use keys of one bucket only.
    """

    def __init__(self, client: RedisClient, prefix: str, *, lease: float, in_cluster: bool) -> None:
        self.names: Names = Names(prefix)
        self._client = client
        self._lease = 1000 * round(1000 * lease)
        self._in_cluster = in_cluster
        self._worker, self._common = "", packed(())

    async def step(self, name: str, key: str, worker: str, *arguments: Argument) -> object:
        """Do a step of one lane."""
        if worker != self._worker:
            self._worker, self._common = worker, packed((worker, self._lease, self.names.channel))
        lane = key_out(key)
        first, keys = self.names.packed(lane)
        rest, common = packed(arguments), self._common
        sent = b"%b%b$%d\r\n%b\r\n%b" % (keys.sent, common.sent, len(lane), lane, rest.sent)
        count = keys.parts + common.parts + 1 + rest.parts
        return await self._client.run_packed(SCRIPTS[name], first, Packed(count, sent))

    async def opened(self) -> bool:
        """See to it that there is a record of each bucket; tell whether all were lost."""
        arguments = (self._lease, self.names.channel)
        groups = [[bucket] for bucket in range(BUCKETS)] if self._in_cluster else [list(range(BUCKETS))]
        found = await asyncio.gather(
            *(
                self._client.run(SCRIPTS["open"], [self.names.bucket(bucket) for bucket in group], arguments)
                for group in groups
            )
        )
        return 1 in found

    async def secret(self) -> bytes:
        """Return what all workers share, which the first one makes; it is kept as long as the server keeps anything."""
        name = self.names.secret
        await self._client.about("SET", name, secrets.token_hex(SECRET_BYTES), "NX", key=name)
        found = cast("bytes | None", await self._client.about("GET", name, key=name))
        return b"" if found is None else bytes.fromhex(found.decode("ascii", "replace"))

    async def may_be_evicted(self) -> bool:
        """Tell whether the server may throw away what it is to keep."""
        return await self._client.may_evict(self.names.channel)

    async def require_voice(self, worker: str) -> None:
        """Find out whether the user may publish: a script that may not is stopped in its middle."""
        await self._client.command("PUBLISH", self.names.channel + worker, "")

    async def renewed(self, tickets: Iterable[Alive], worker: str) -> list[tuple[Alive, object, list[Note]]]:
        """Renew tickets; return of each when its lane is to be looked at again, and what is told."""
        renewed: list[tuple[Alive, object, list[Note]]] = []
        for group in self._grouped(tickets):
            keys, indexes = self._lanes(group)
            parts: list[Argument] = [worker, self._lease, self.names.channel, len(group)]
            for alive in group:
                parts += (indexes[alive.key], key_out(alive.key), alive.ticket, alive.token)
            found = cast("list[list[object]]", await self._client.run(SCRIPTS["renew"], keys, parts))
            for alive, (again, notes) in zip(group, found, strict=True):
                told = [note_in(note) for note in cast("list[list[bytes]]", notes)]
                renewed.append((alive, again, told))
        return renewed

    async def closed(self, tickets: Iterable[Alive], worker: str) -> None:
        """Take tickets out of their lanes."""
        for group in self._grouped(tickets):
            keys, indexes = self._lanes(group)
            parts: list[Argument] = [worker, self._lease, self.names.channel, len(group)]
            for alive in group:
                parts += (indexes[alive.key], key_out(alive.key), alive.ticket)
            await self._client.run(SCRIPTS["close"], keys, parts)

    async def views(self, key: str | None) -> list[LaneView]:
        """Return all lanes, by key, or one of them."""
        keys = [key] if key is not None else sorted(await self._keys())
        found: dict[str, LaneView] = {}
        for group in self._grouped([Alive(each, "") for each in keys]):
            names = [name for alive in group for name in self.names.of_lane(alive.key)]
            parts: list[Argument] = ["", self._lease, self.names.channel, *(key_out(alive.key) for alive in group)]
            views = cast("list[list[object]]", await self._client.run(SCRIPTS["look"], names, parts))
            for alive, row in zip(group, views, strict=True):
                view = view_in(alive.key, row)
                if view is not None and (view.holder or view.waiting or view.paused):
                    found[alive.key] = view
        return [found[each] for each in keys if each in found]

    async def _keys(self) -> list[str]:
        groups = [[bucket] for bucket in range(BUCKETS)] if self._in_cluster else [list(range(BUCKETS))]
        found: list[bytes] = []
        for group in groups:
            indexes = [self.names.index(bucket) for bucket in group]
            found += cast("list[bytes]", await self._client.run(SCRIPTS["index"], indexes, ()))
        return [key_in(key) for key in found]

    def _grouped(self, tickets: Iterable[Alive]) -> list[list[Alive]]:
        """Divide tickets into what goes into one script, those of one lane side by side."""
        groups: list[list[Alive]] = []
        tickets = list(tickets)
        buckets = {alive.key: self.names.bucket_of(alive.key) for alive in tickets}
        for alive in sorted(tickets, key=lambda alive: (buckets[alive.key], alive.key)):
            last = groups[-1] if groups else None
            if (
                last is None
                or len(last) >= TOGETHER
                or (self._in_cluster and buckets[last[0].key] != buckets[alive.key])
            ):
                groups.append([alive])
            else:
                last.append(alive)
        return groups

    def _lanes(self, group: Sequence[Alive]) -> tuple[list[bytes], dict[str, int]]:
        """Return the names of the lanes of some tickets, and which of them is whose."""
        indexes: dict[str, int] = {}
        names: list[bytes] = []
        for alive in group:
            if alive.key not in indexes:
                indexes[alive.key] = len(indexes)
                names += self.names.of_lane(alive.key)
        return names, indexes


class Translated:
    """Turns what the client raises in a block into the errors of this package."""

    __slots__ = ("_key", "_operation", "_where")

    def __init__(self, where: str, operation: str, key: str) -> None:
        self._where = where
        self._operation = operation
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        match exc:
            case Forked():
                raise EngineUnavailable(self._where, operation=self._operation, reason=FORKED, key=self._key) from None
            case Unreachable(sent=True):
                raise OutcomeUnknown(self._where, operation=self._operation, reason=str(exc), key=self._key) from exc
            case Unreachable() | Refused():
                raise EngineUnavailable(self._where, operation=self._operation, reason=str(exc), key=self._key) from exc
            case _:
                pass
