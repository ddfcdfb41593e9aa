"""Messages with idempotency keys, sent to a staged app."""

from collections.abc import Mapping
from typing import Any

from support.asgi_staged import StagedApp, laned, post
from turnlane import LaneMiddleware
from turnlane.duplicates import Claim, Duplicates, MemoryDuplicateStore, MessageRecord
from turnlane.errors import DuplicatesUnavailable
from turnlane.testing import AsgiDriver, HttpRequest, Response

__all__ = ("JSON", "FailingDuplicates", "code_of", "keyed", "once", "runs_of", "send")

JSON = {"content-type": "application/json"}


class FailingDuplicates(MemoryDuplicateStore):
    """Fails in one operation."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation

    def _may_fail(self, operation: str) -> None:
        if operation == self.operation:
            raise DuplicatesUnavailable(where=self.where, operation=operation, reason="the test said so")

    async def claim(
        self, message: str, record: MessageRecord, *, replaces: MessageRecord | None = None, anew: bool = False
    ) -> Claim:
        self._may_fail("claim")
        return await super().claim(message, record, replaces=replaces, anew=anew)

    async def begin(self, message: str, run: str) -> bool:
        self._may_fail("begin")
        return await super().begin(message, run)

    async def finish(self, message: str, record: MessageRecord, *, at: float, limit: int) -> bool:
        self._may_fail("finish")
        return await super().finish(message, record, at=at, limit=limit)

    async def free(self, message: str, run: str, *, restores: MessageRecord | None = None) -> None:
        self._may_fail("free")
        await super().free(message, run, restores=restores)


def once(app: StagedApp, **settings: Any) -> LaneMiddleware:
    """Return the middleware with duplicates in memory; what `Duplicates` takes goes to it."""
    own = ("store", "keep", "limit", "max_answer", "retries", "while_running", "wait_timeout", "clock")
    given = {name: settings.pop(name) for name in own if name in settings}
    return laned(app, idempotency=Duplicates(**given), **settings)


def keyed(
    driver: AsgiDriver, name: str, key: str | None = "one", *, session: str | None = "alice", **options: Any
) -> HttpRequest:
    """Start a request with an idempotency key; `name` is what the app knows it by."""
    headers: Mapping[str, str] = {**({} if key is None else {"idempotency-key": key}), **options.pop("headers", {})}
    return post(driver, session, name, headers=headers, **options)


async def send(driver: AsgiDriver, name: str, key: str | None = "one", **options: Any) -> Response:
    """Send such a request and return its whole response."""
    return await keyed(driver, name, key, **options).response()


def code_of(response: Response) -> str:
    """Return the code of a refusal, empty for an answer."""
    if response.headers.get("content-type") != "application/problem+json":
        return ""
    return str(response.json()["error"]["code"])


def runs_of(app: StagedApp) -> list[str]:
    """Return the names of the requests the app was called for, in order."""
    return [line[1:] for line in app.log if line.startswith("+")]
