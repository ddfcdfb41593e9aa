"""How the scripts are asked, and what their errors become."""

import asyncio
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import cast

from turnlane.engines.base import Alive, LaneView, Note
from turnlane.engines.redis.scripts import BUCKETS, SCRIPTS, Names
from turnlane.engines.redis.wire import Argument, key_in, note_in, view_in
from turnlane.errors import EngineUnavailable, OutcomeUnknown
from turnlane.redis import Forked, RedisClient, Refused, Unreachable

__all__ = ("FORKED", "Asking", "translated")

FORKED = "it was opened before this process was forked; make the lanes, or use them first, after the fork"
TOGETHER = 200  # lanes or tickets in one script, some milliseconds


class Asking:
    """The scripts of one engine.

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

    async def step(self, name: str, key: str, worker: str, *arguments: Argument) -> list[object]:
        """Do a step of one lane."""
        common = (worker, self._lease, self.names.channel, _bytes(key))
        found = await self._client.run(SCRIPTS[name], self.names.of_lane(key), (*common, *arguments))
        return cast("list[object]", found)

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

    async def may_be_evicted(self) -> bool:
        """Tell whether the server may throw away what it is to keep."""
        memory = cast("bytes", await self._client.about("INFO", "memory", key=self.names.channel))
        return b"maxmemory_policy:allkeys" in memory and b"maxmemory:0\r" not in memory

    async def renewed(self, tickets: Iterable[Alive], worker: str) -> list[tuple[Alive, object, list[Note]]]:
        """Renew tickets; return of each when its lane is to be looked at again, and what is told."""
        renewed: list[tuple[Alive, object, list[Note]]] = []
        for group in self._grouped(tickets):
            keys, indexes = self._lanes(group)
            parts: list[Argument] = [worker, self._lease, self.names.channel, len(group)]
            for alive in group:
                parts += (indexes[alive.key], _bytes(alive.key), alive.ticket, alive.token)
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
                parts += (indexes[alive.key], _bytes(alive.key), alive.ticket)
            await self._client.run(SCRIPTS["close"], keys, parts)

    async def views(self, key: str | None) -> list[LaneView]:
        """Return all lanes, by key, or one of them."""
        keys = [key] if key is not None else sorted(await self._keys())
        found: dict[str, LaneView] = {}
        for group in self._grouped([Alive(each, "") for each in keys]):
            names = [name for alive in group for name in self.names.of_lane(alive.key)]
            parts: list[Argument] = ["", self._lease, self.names.channel, *(_bytes(alive.key) for alive in group)]
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


@contextmanager
def translated(where: str, operation: str, key: str) -> Generator[None, None, None]:
    """Turn what the client raises into the errors of this package."""
    try:
        yield
    except Forked:
        raise EngineUnavailable(where, operation=operation, reason=FORKED, key=key) from None
    except Unreachable as error:
        if error.sent:
            raise OutcomeUnknown(where, operation=operation, reason=str(error), key=key) from error
        raise EngineUnavailable(where, operation=operation, reason=str(error), key=key) from error
    except Refused as refused:
        raise EngineUnavailable(where, operation=operation, reason=str(refused), key=key) from refused


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")
