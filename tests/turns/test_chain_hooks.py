"""The hooks for HTTP clients: which requests get the call chain, and which never do."""

import asyncio
from importlib import import_module
from typing import Any

import openai
import pytest

from turnlane import Lanes
from turnlane.httpx import chain_hook, sync_chain_hook
from turnlane.turns.chain import CHAIN_HEADER

LIBRARIES = ("httpx", "httpx2")


def answering(library: Any, seen: list[tuple[str, str | None]]) -> Any:
    """A transport that notes the chain of each request, and sends `/to?<url>` on to that URL."""

    def handle(request: Any) -> Any:
        seen.append((str(request.url.copy_with(query=None)), request.headers.get(CHAIN_HEADER)))
        if request.url.path == "/to":
            return library.Response(307, headers={"location": request.url.query.decode()})
        return library.Response(200, json={})

    return library.MockTransport(handle)


async def sent(name: str, hosts: tuple[str, ...], *urls: str, **options: Any) -> tuple[list[tuple[str, bool]], str]:
    """Send requests from inside a turn; return each URL with whether it got the chain, and the chain."""
    library = import_module(name)
    seen: list[tuple[str, str | None]] = []
    async with Lanes().turn("a") as turn:
        chain = turn.headers()[CHAIN_HEADER]
        hooks = {"request": [chain_hook(*hosts)]}
        transport = answering(library, seen)
        async with library.AsyncClient(transport=transport, event_hooks=hooks, follow_redirects=True) as client:
            for url in urls:
                await client.post(url, **options)
    assert {found for _, found in seen} <= {None, chain}
    return [(url, found is not None) for url, found in seen], chain


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("listed", "url", "expected"),
    [
        ("agents", "http://agents/x", True),
        ("agents", "https://agents/x", True),
        ("Agents", "http://AGENTS/x", True),
        ("agents", "http://agents:80/x", True),
        ("agents:80", "http://agents/x", True),
        ("agents:443", "https://agents/x", True),
        ("agents:8001", "http://agents:8001/x", True),
        ("127.0.0.1:8001", "http://127.0.0.1:8001/x", True),
        ("[::1]:8001", "http://[::1]:8001/x", True),
        ("agents", "http://user:secret@agents/x", True),
        ("agents", "http://agents:8001/x", False),
        ("agents", "http://agents:443/x", False),
        ("agents:8001", "http://agents:8002/x", False),
        ("agents:443", "http://agents/x", False),
        ("agents", "http://agents.evil.example/x", False),
        ("agents", "http://sub.agents/x", False),
        ("agents", "http://agents./x", False),
        ("agents", "http://agents@evil.example/x", False),
        ("agents", "http://evil.example/agents", False),
        ("agents", "http://xagents/x", False),
    ],
)
async def test_the_header_goes_to_listed_hosts_alone(library: str, listed: str, url: str, expected: bool) -> None:
    """Compared as they are: no part of a name, no other port, nobody who only looks alike."""
    found, _ = await sent(library, (listed,), url)
    assert [has for _, has in found] == [expected]


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_redirect_to_another_host_leaves_it_behind(library: str) -> None:
    """And back again has it again; another port is another host."""
    found, _ = await sent(
        library,
        ("agents", "agents:81"),
        "http://agents/to?http://evil.example/x",
        "http://agents/to?http://agents:82/to?http://agents:81/x",
    )
    assert [has for _, has in found] == [True, False, True, False, True]


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_header_somebody_else_set_is_taken_out(library: str) -> None:
    """A client with the header among its own would send it everywhere."""
    async with Lanes().turn("a") as turn:
        given = turn.headers()
        seen: list[tuple[str, str | None]] = []
        module = import_module(library)
        hooks = {"request": [chain_hook("agents")]}
        async with module.AsyncClient(transport=answering(module, seen), event_hooks=hooks, headers=given) as client:
            await client.post("http://evil.example/x")
    assert seen == [("http://evil.example/x", None)]


@pytest.mark.parametrize("library", LIBRARIES)
async def test_the_chain_is_that_of_the_moment(library: str) -> None:
    """One client for all: none outside a turn and when detached; in a child task that of the turn."""
    module = import_module(library)
    seen: list[tuple[str, str | None]] = []
    lanes = Lanes()
    hooks = {"request": [chain_hook("agents")]}
    async with module.AsyncClient(transport=answering(module, seen), event_hooks=hooks) as client:
        await client.post("http://agents/1")
        async with lanes.turn("a") as outer, lanes.turn("b") as inner:
            await asyncio.create_task(client.post("http://agents/2"))
            with inner.detached():
                await client.post("http://agents/3")
            outer_chain, inner_chain = outer.headers()[CHAIN_HEADER], inner.headers()[CHAIN_HEADER]
        await client.post("http://agents/4")
    assert [chain for _, chain in seen] == [None, inner_chain, None, None]
    assert inner_chain.startswith(f"{outer_chain}, ")
    assert [item.partition(".")[0] for item in inner_chain.split(", ")] == [outer.id, inner.id]


@pytest.mark.parametrize("library", LIBRARIES)
async def test_in_a_thread(library: str) -> None:
    """The hook for clients that are not async."""
    module = import_module(library)
    seen: list[tuple[str, str | None]] = []

    def work() -> None:
        hooks = {"request": [sync_chain_hook("agents")]}
        with module.Client(transport=answering(module, seen), event_hooks=hooks, follow_redirects=True) as client:
            client.post("http://agents/to?http://evil.example/x")

    async with Lanes().turn("a") as turn:
        await asyncio.to_thread(work)
        assert [chain for _, chain in seen] == [turn.headers()[CHAIN_HEADER], None]


async def test_the_openai_client_passes_it_on() -> None:
    """Given as its `http_client`."""
    wire = openai.DefaultAsyncHttpxClient.__mro__[1].__module__.split(".")[0]
    module = import_module(wire)
    seen: list[tuple[str, str | None]] = []
    hooks = {"request": [chain_hook("agents:8001")]}
    http = openai.DefaultAsyncHttpxClient(transport=answering(module, seen), event_hooks=hooks)
    client = openai.AsyncOpenAI(base_url="http://agents:8001/v1", api_key="none", http_client=http)
    async with client, Lanes().turn("a") as turn:
        await client.chat.completions.create(model="m", messages=[])
        assert [chain for _, chain in seen] == [turn.headers()[CHAIN_HEADER]]


@pytest.mark.parametrize(
    "hosts",
    [
        *((), ("",), ("*",), ("*.agents",), ("http://agents",), ("agents/",), ("agents:",), ("agents:0",)),
        *(
            ("agents:99999",),
            ("a b",),
            ("user@agents",),
            ("agents:x",),
            ("::1",),
            (None,),
            (b"agents",),
            ("agents", "*"),
        ),
    ],
)
@pytest.mark.parametrize("make", [chain_hook, sync_chain_hook])
def test_a_host_that_is_not_one_is_refused(make: Any, hosts: tuple[Any, ...]) -> None:
    """No wildcards, no URLs: when the hook is made, not when it would have been needed."""
    with pytest.raises(ValueError, match="call chain"):
        make(*hosts)
