"""Passing the call chain on: hooks for the requests of httpx clients, and of what is built on them.

`httpx.AsyncClient(event_hooks={"request": [chain_hook("agents.internal:8080")]})`; the OpenAI and Anthropic clients
take such a client as `http_client=`. Nothing is imported: httpx and httpx2 call their hooks alike.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from turnlane.turns.chain import CHAIN_HEADER
from turnlane.turns.context import current_turn

__all__ = ("chain_hook", "sync_chain_hook")

HOST = re.compile(r"(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
DEFAULT_PORTS = (("http", 80), ("https", 443))

Place = tuple[str, int | None]


class _Url(Protocol):
    """What a hook looks at of a request's URL."""

    @property
    def scheme(self) -> str:
        """In lower case."""
        ...

    @property
    def raw_host(self) -> bytes:
        """As it is sent, without brackets."""
        ...

    @property
    def port(self) -> int | None:
        """None for the default of the scheme."""
        ...


def chain_hook(*hosts: str) -> Callable[[Any], Awaitable[None]]:
    """Return a request hook for `httpx.AsyncClient` that passes the call chain of the current turn on to `hosts`.

    Guarantees: the header is sent to the hosts given and to no other, also where a redirect leads to another; it is
    taken out of a request that goes there however it got in. Outside a turn and in `turn.detached()` nothing is added.

    Not guaranteed: secrecy on the way. A host that is reached over plain http shows the header to whoever listens; an
    HTTP proxy of such requests does too.

    Args:
        *hosts: each `host` (the default port of http or https) or `host:port`, IPv6 addresses in brackets. They are
            compared as they are, without wildcards.

    Raises:
        ValueError: there is none, or one is not of that form.
        CallChainTooLong: from the request, when more than 32 turns call each other.
    """
    places = _places(hosts)

    async def hook(request: Any) -> None:
        _pass_on(request, places)

    return hook


def sync_chain_hook(*hosts: str) -> Callable[[Any], None]:
    """Return the same hook for `httpx.Client`, which turns use in worker threads.

    Args:
        *hosts: as for `chain_hook`.

    Raises:
        ValueError: as for `chain_hook`.
    """
    places = _places(hosts)

    def hook(request: Any) -> None:
        _pass_on(request, places)

    return hook


def _places(hosts: tuple[str, ...]) -> frozenset[Place]:
    if not hosts:
        raise ValueError("name the hosts the call chain may be passed on to: chain_hook('agents.internal:8080')")
    return frozenset(_place(host) for host in hosts)


def _place(host: object) -> Place:
    found = HOST.fullmatch(host.lower()) if isinstance(host, str) else None
    port = None if found is None or found["port"] is None else int(found["port"])
    if found is None or (port is not None and not 0 < port < 65536):
        raise ValueError(f"a host to pass the call chain on to is written host or host:port, not {host!r}")
    return found["host"].strip("[]"), port


def _pass_on(request: Any, places: frozenset[Place]) -> None:
    if not _is_listed(request.url, places):
        request.headers.pop(CHAIN_HEADER, None)  # a redirect brings the headers of the request before it
        return
    turn = current_turn()
    if turn is not None:
        request.headers.update(turn.headers())


def _is_listed(url: _Url, places: frozenset[Place]) -> bool:
    host, scheme = url.raw_host.decode("ascii", "replace").lower(), url.scheme
    default = dict(DEFAULT_PORTS).get(scheme)
    port = default if url.port is None else url.port
    return port is not None and ((host, port) in places or (port == default and (host, None) in places))
