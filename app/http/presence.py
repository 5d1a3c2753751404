"""Stops work for a client that has gone."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiohttp import web

from app.errors import Unavailable

T = TypeVar("T")
_LOOK = 0.2  # seconds


class ClientGone(Unavailable):
    """The client has gone, and nobody reads this."""


async def while_connected(request: web.Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled if the client closes its connection. Raises ``ClientGone``.

    aiohttp does not cancel a handler then, as half-done changes would be the result.
    """
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=_LOOK))[0]:
            if request.transport is None or request.transport.is_closing():
                raise ClientGone
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
