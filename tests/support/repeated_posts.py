"""Sends requests with an Idempotency-Key in one process after another, each killed -9 at a moment of its own.

Run as ``python repeated_posts.py DSN REQUESTS KILLS``, with the checkout and its tests in PYTHONPATH. Each process sends all requests
that have no answer yet, several at once; the last one may end. Each request makes a domain, as POST /v1/domain does.
"""

import asyncio
import os
import random
import select
import signal
import sys
import time
from types import SimpleNamespace
from typing import cast

from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry
from app.access.origin import Actor, Claim, Origin
from app.database.pool import Pool, open_pool
from app.errors import Conflict
from app.http.idempotency import Idempotency
from app.jobs.claims import Claims
from tests.support.access_tokens import OPERATOR

AT_ONCE = 5
_INSERT = "INSERT INTO voicemail.domain (name) VALUES ($1)"


async def send(pool: Pool, idempotency: Idempotency, number: int, begun: int) -> str:
    """The answer to one request: ``made``, ``lost``, or ``running``."""

    async def read() -> bytes:
        return b"%d" % number

    async def act(claim: Claim) -> web.StreamResponse:
        grant = OPERATOR.asked_from(Origin(Actor.TOKEN, claim=claim))
        async with pool.acquire() as connection, connection.transaction():
            # No unique name keeps the domain from being made twice.
            await connection.execute(_INSERT, f"n{number}-{claim.run}.example")
            await audit.insert(connection, [AuditEntry.of(grant, Action.DOMAIN_CREATE, target=number)])
        os.write(begun, b".")
        await asyncio.sleep(random.uniform(0.0, 0.01))
        return web.Response(status=201, body=b"made", content_type="application/json")

    headers = CIMultiDict({"Idempotency-Key": f"key-{number}", "Authorization": "Bearer t"})
    raw = SimpleNamespace(headers=headers, rel_url=URL("/v1/domain"), method="POST", content_type="application/json", read=read)
    try:
        await idempotency.answer(cast("web.Request", raw), OPERATOR, act, read)
    except Conflict as error:
        return "lost" if "lost" in error.detail else "running"
    return "made"


async def live(dsn: str, requests: int, begun: int) -> None:
    """Send every request; the answers are written at the end."""
    pool, claims = await open_pool(dsn, application_name="test"), Claims(dsn)
    idempotency = Idempotency(pool, claims)
    free = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> str:
        async with free:
            while (answer := await send(pool, idempotency, number, begun)) == "running":
                await asyncio.sleep(0.05)  # PostgreSQL has not noticed the death of the process before
            return answer

    answers = await asyncio.gather(*(one(number) for number in range(requests)))
    print(f"made {answers.count('made')} lost {answers.count('lost')}", flush=True)


def main(arguments: list[str]) -> None:
    """Kill one process after the other, and let the last one end by itself."""
    dsn, requests, kills = arguments
    chance = random.Random(3)
    for life in range(int(kills) + 1):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            asyncio.run(live(dsn, int(requests), writing))
            os._exit(0)
        os.close(writing)
        if life < int(kills):
            select.select([reading], [], [], 10)
            time.sleep(chance.uniform(0.0, 0.05))
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        os.close(reading)


if __name__ == "__main__":
    main(sys.argv[1:])
