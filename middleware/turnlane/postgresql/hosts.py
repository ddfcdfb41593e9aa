"""URLs that name several hosts: each is tried, and one that does not answer keeps nobody from the next."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar
from urllib import parse

__all__ = ("first_of", "first_patience", "hosts_of")

BEFORE_THE_NEXT = 0.25  # seconds for which one host alone is tried

_T = TypeVar("_T")


def hosts_of(dsn: str) -> tuple[str, ...]:
    """Return a URL for each host of one."""
    parts = parse.urlsplit(dsn)
    user, at, hosts = parts.netloc.rpartition("@")
    if "," in hosts:
        return tuple(parse.urlunsplit(parts._replace(netloc=f"{user}{at}{host}")) for host in hosts.split(","))
    options = dict(parse.parse_qsl(parts.query, keep_blank_values=True))
    named = options.get("host", "").split(",")
    ports = options.get("port", "").split(",")
    if len(named) == 1:
        return (dsn,)
    if len(ports) == 1:
        ports *= len(named)
    found: list[str] = []
    for host, port in zip(named, ports, strict=False):
        own = options | {"host": host} | ({"port": port} if port else {})
        found.append(parse.urlunsplit(parts._replace(query=parse.urlencode(own))))
    return tuple(found)


def first_patience(dsn: str, timeout: float) -> float:
    """Return for how many seconds an answer is waited for at first: half of them is left for another host."""
    return timeout / 2 if len(hosts_of(dsn)) > 1 else timeout


async def first_of(
    places: Iterable[str], connect: Callable[[str], Awaitable[_T]], *, discard: Callable[[_T], None]
) -> tuple[str, _T]:
    """Return the first connection that is made, and where to; each place is tried a moment after the one before it.

    Raises:
        Exception: what the last one that failed did, where all have.
    """
    left = list(places)
    tasks: dict[asyncio.Task[_T], str] = {}
    failed: BaseException = OSError("no host is named")
    try:
        while left or tasks:
            if left:
                place = left.pop(0)
                tasks[asyncio.ensure_future(connect(place))] = place
            done, _ = await asyncio.wait(
                tasks, timeout=BEFORE_THE_NEXT if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                place, error = tasks.pop(task), task.exception()
                if error is None:
                    return place, task.result()
                failed = error
        raise failed
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and task.exception() is None:
                discard(task.result())
