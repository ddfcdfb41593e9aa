"""Keep-alive through nginx, which gives a silent server up."""

import asyncio
from pathlib import Path

import httpx
import openai
import pytest

from support.net_clients import openai_client
from support.net_nginx import nginx_before, require_nginx
from support.net_streams import KEY, serving_streams
from turnlane import KeepAlive, Lanes

pytestmark = [pytest.mark.sockets, pytest.mark.asyncio(loop_factories=["asyncio"])]

READ_TIMEOUT = 1
WAIT = 2.5  # seconds that must pass: longer than the proxy waits


async def asked_through_nginx(place: Path, keepalive: KeepAlive | None) -> tuple[list[str | None], int]:
    """Ask for a stream whose lane is taken for a while; return its words, and how many requests reached the server."""
    async with (
        serving_streams(keepalive) as (port, lanes, overheard),
        nginx_before(port, place, read_timeout=READ_TIMEOUT) as proxy,
        openai_client(proxy, max_retries=0) as client,
        asyncio.TaskGroup() as group,
    ):
        held = asyncio.Event()
        group.create_task(hold(lanes, held))
        await held.wait()
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hello"}], extra_headers={KEY: "k"}, stream=True
        )
        words = [chunk.choices[0].delta.content async for chunk in stream]
    return words, overheard.requests["k"]


async def hold(lanes: Lanes, held: asyncio.Event) -> None:
    async with lanes.turn("k"):
        held.set()
        await asyncio.sleep(WAIT)


async def test_without_it_the_proxy_answers_504(tmp_path: Path) -> None:
    """The client loses an answer that would have come: this is what keep-alive is for."""
    with pytest.raises(ExceptionGroup) as caught:
        await asked_through_nginx(tmp_path, None)
    [error] = caught.value.exceptions
    assert isinstance(error, openai.InternalServerError)
    assert error.status_code == 504


async def test_with_it_the_answer_comes(tmp_path: Path) -> None:
    """Of one request."""
    words, requests = await asked_through_nginx(tmp_path, KeepAlive(after=0.2, every=0.3))
    assert (words, requests) == (["one", " two"], 1)


async def test_the_proxy_passes_comment_lines_on_as_they_come(tmp_path: Path) -> None:
    """The client has the first one while its lane is still taken: the stream is not collected on the way."""
    async with (
        serving_streams(KeepAlive(after=0, every=0.5)) as (port, lanes, _),
        nginx_before(port, tmp_path, read_timeout=READ_TIMEOUT) as proxy,
        httpx.AsyncClient(trust_env=False, timeout=10) as client,
    ):
        url = f"http://127.0.0.1:{proxy}/v1/chat/completions"
        async with lanes.turn("k"):
            asked = client.build_request("POST", url, headers={KEY: "k"}, json={"stream": True})
            response = await client.send(asked, stream=True)
            parts = response.aiter_text()
            first = await anext(parts)
        rest = [part async for part in parts]
    assert first.startswith(": queued\n")
    assert "".join(rest).endswith("data: [DONE]\n\n")
    assert response.headers["cache-control"] == "no-cache, no-store"


async def test_the_proxy_that_is_missing_fails_on_ci_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As everything that Debian has."""

    def nowhere(*_: object, **__: object) -> None: ...

    monkeypatch.setattr("shutil.which", nowhere)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nginx not found"):
        require_nginx()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="nginx not found"):
        require_nginx()
