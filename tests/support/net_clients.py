"""The real clients of model services, pointed at a server on this machine, without proxies and with bounded waits."""

from typing import Any

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from openai import DefaultAsyncHttpxClient as OpenAIHttpClient

__all__ = ("anthropic_client", "openai_client")


def openai_client(port: int, *, max_retries: int = 0, timeout: float = 15.0, **http: Any) -> AsyncOpenAI:
    """Return a client of the server at a port; `http` goes to its HTTP client."""
    return AsyncOpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key="unused",
        max_retries=max_retries,
        timeout=timeout,
        http_client=OpenAIHttpClient(trust_env=False, **http),
    )


def anthropic_client(port: int, *, max_retries: int = 0, timeout: float = 15.0) -> AsyncAnthropic:
    """Return a client of the server at a port."""
    from anthropic import DefaultAsyncHttpxClient

    return AsyncAnthropic(
        base_url=f"http://127.0.0.1:{port}",
        api_key="unused",
        max_retries=max_retries,
        timeout=timeout,
        http_client=DefaultAsyncHttpxClient(trust_env=False),
    )
