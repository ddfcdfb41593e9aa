"""What callables of the user are asked with."""

import json
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import Scope

from turnlane.asgi.body import RequestBody

__all__ = ("LaneConnection",)


class LaneConnection(HTTPConnection):
    """A request before it has its lane: `headers`, `query_params`, `cookies`, `state`, `user` as in Starlette.

    The body can be read whole, up to the middleware's `body_limit`; the app still gets it.
    """

    def __init__(self, scope: Scope, body: RequestBody, param: str) -> None:
        super().__init__(scope)
        self._request_body = body
        self._param = param

    async def body(self) -> bytes:
        """Return the whole body.

        Raises:
            BodyTooLarge: it is longer than `body_limit`.
            CapacityExceeded: the bodies held already use up `body_budget`.
        """
        return await self._request_body.whole(self._param)

    async def json(self) -> Any:
        """Return the body as the JSON document it is.

        Raises:
            ValueError: it is none.
        """
        return json.loads(await self.body())
