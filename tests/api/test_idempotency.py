"""``Idempotency-Key``: what is sent twice is done once, and its first answer is kept, sealed, for a day."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import asyncpg
import pytest
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from app.access.audit import store as audit
from app.access.audit.model import Action, AuditEntry
from app.access.grant import Grant
from app.access.origin import Actor, Claim, Origin
from app.database.pool import Pool
from app.errors import Conflict, Invalid, NotFound
from app.http.idempotency import Idempotency
from app.jobs.claims import Claims
from tests.support.access_tokens import OPERATOR, make_token
from tests.support.pbx import DOMAIN, Site


async def post(
    api: Site, path: str, key: str | None, body: Mapping[str, Any] | None = None, token: str | None = None
) -> tuple[int, Any, Mapping[str, str]]:
    """Status, body and headers of a POST."""
    headers = ({"Idempotency-Key": key} if key is not None else {}) | ({"Authorization": f"Bearer {token}"} if token else {})
    async with api.client.post(path, json=body, headers=headers) as answer:
        return answer.status, await answer.json(), answer.headers.copy()


def mailbox(extension: str, **fields: Any) -> dict[str, Any]:
    """A new mailbox's body."""
    return {"extension": extension, "password": "739164", "enabled": True} | fields


async def test_a_mailbox_that_is_asked_for_twice_is_made_once_and_answered_alike(api: Site, extension: str) -> None:
    key = uuid4().hex

    status, body, headers = await post(api, "/v1/voicemail", key, mailbox(extension))
    again = await post(api, "/v1/voicemail", key, mailbox(extension))

    assert (status, again[0], again[1]) == (201, 201, body)
    assert "Idempotency-Replayed" not in headers
    assert again[2]["Idempotency-Replayed"] == "true"
    for name in ("Location", "ETag", "Content-Type", "Cache-Control"):
        assert again[2][name] == headers[name]
    assert headers["X-Request-ID"] != again[2]["X-Request-ID"]
    changed = (await api.get(f"/v1/audit?action=mailbox.create&extension={extension}"))["data"]
    assert len(changed) == 1
    assert (await post(api, "/v1/voicemail", None, mailbox(extension)))[0] == 409


async def test_a_generated_pin_stays_and_nothing_in_the_table_shows_it(api: Site, extension: str) -> None:
    await api.create(extension)
    key = uuid4().hex

    first = await post(api, f"/v1/voicemail/{extension}/pin", key)
    again = await post(api, f"/v1/voicemail/{extension}/pin", key)

    pin = first[1]["password"]
    assert again[1] == first[1]
    assert (await api.get(f"/v1/voicemail/{extension}"))["password"] == pin
    connection = await asyncpg.connect(api.dsn)
    rows = await connection.fetch("SELECT * FROM voicemail.idempotency")
    await connection.close()
    kept = b"".join(value for row in rows for value in row.values() if isinstance(value, bytes))
    assert kept
    assert pin.encode() not in kept
    assert key.encode() not in kept


async def test_tokens_and_domains_too(api: Site) -> None:
    name, key = f"t{uuid4().hex}", uuid4().hex
    body = {"name": name, "domains": [DOMAIN], "scopes": ["message:read"]}

    first, again = [await post(api, "/v1/token", key, body) for _ in range(2)]
    assert (first[0], again[:2]) == (201, first[:2])
    rotated = [await post(api, f"/v1/token/{name}/rotate", f"{key}-2", {}) for _ in range(2)]
    assert rotated[0][1]["token"] == rotated[1][1]["token"] != first[1]["token"]
    domains = [await post(api, "/v1/domain", f"{key}-3", {"name": f"{name}.example"}) for _ in range(2)]
    assert [status for status, _, _ in domains] == [201, 201]


async def test_another_body_or_path_with_the_same_key_is_refused(api: Site, extension: str) -> None:
    key = uuid4().hex
    await post(api, "/v1/voicemail", key, mailbox(extension))

    for path, body in (
        ("/v1/voicemail", mailbox(extension, description="x")), (f"/v1/voicemail/{extension}/pin", None), ("/v1/domain", {"name": "x.example"}),
    ):  # fmt: skip
        status, answer, _ = await post(api, path, key, body)
        assert status == 422
        assert answer["errors"][0]["field"] == "Idempotency-Key"


async def test_a_key_is_each_token_s_own_and_a_rotated_token_s_too(api: Site, extension: str) -> None:
    key, name = uuid4().hex, f"other{uuid4().hex}"
    token = await make_token(api.dsn, name)
    made = await post(api, f"/v1/voicemail?_={extension}", key, mailbox(extension))

    other = await post(api, "/v1/voicemail", key, mailbox(extension + "1"), token)
    assert (made[0], other[0]) == (201, 201)
    rotated = (await post(api, f"/v1/token/{name}/rotate", None, {}))[1]["token"]

    status, body, _ = await post(api, "/v1/voicemail", key, mailbox(extension + "1"), rotated)
    assert status == 409
    assert "text" in body["detail"]


async def test_a_refusal_is_not_kept(api: Site, extension: str) -> None:
    key, path = uuid4().hex, f"/v1/voicemail/{extension}/pin"

    assert (await post(api, path, key))[0] == 404
    await api.create(extension)

    assert (await post(api, path, key))[0] == 200


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ü"])
async def test_a_key_that_cannot_be_one_is_refused(api: Site, extension: str, key: str) -> None:
    status, body, _ = await post(api, "/v1/voicemail", key, mailbox(extension))

    assert status == 422
    assert body["errors"][0]["field"] == "Idempotency-Key"


async def test_of_many_at_once_one_is_done(api: Site, extension: str) -> None:
    key = uuid4().hex

    answers = await asyncio.gather(*(post(api, "/v1/voicemail", key, mailbox(extension)) for _ in range(8)))

    assert {status for status, _, _ in answers} <= {201, 409}
    assert any(status == 201 for status, _, _ in answers)
    assert all("Idempotency-Key" in body["detail"] for status, body, _ in answers if status == 409)
    assert (await post(api, "/v1/voicemail", key, mailbox(extension)))[0] == 201


async def test_every_post_says_that_it_takes_the_header(api: Site) -> None:
    document = await api.get("/openapi.json")

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            named = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"]
            assert ("Idempotency-Key" in named) is (method == "post" and path.startswith("/v1/"))


class Client:
    """Sends a request to ``Idempotency``, which a process that dies has left behind; without HTTP."""

    def __init__(self, pool: Pool, dsn: str) -> None:
        self.pool, self.dsn = pool, dsn
        self.done = 0
        self.claims = Claims(dsn)

    async def send(self, *, key: str = "k", body: bytes = b"{}", die: str = "", hold: asyncio.Event | None = None) -> int:
        """The status; ``die``: be killed before or after the act commits."""

        async def read() -> bytes:
            return body

        headers = CIMultiDict({"Idempotency-Key": key, "Authorization": "Bearer t"})
        raw = SimpleNamespace(headers=headers, rel_url=URL("/v1/x"), method="POST", content_type="application/json", read=read)

        async def act(claim: Claim) -> web.StreamResponse:
            grant: Grant = OPERATOR.asked_from(Origin(Actor.TOKEN, claim=claim))
            if hold is not None:
                await hold.wait()
            async with self.pool.acquire() as connection, connection.transaction():
                await audit.insert(connection, [AuditEntry.of(grant, Action.DOMAIN_CREATE)])
                if die == "before":
                    raise asyncio.CancelledError
                if die == "refuse":
                    raise NotFound
            self.done += 1
            if die == "after":
                raise asyncio.CancelledError
            return web.Response(status=201, body=b"[1]", content_type="application/json")

        response = await Idempotency(self.pool, self.claims).answer(
            cast("web.Request", raw), OPERATOR, act, cast("web.Request", raw).read
        )
        return response.status


@pytest.fixture
async def client(pool: Pool, database: str) -> AsyncIterator[Client]:
    client = Client(pool, database)
    yield client
    await client.claims.close()


async def test_killed_before_the_act_commits_it_is_done_when_it_comes_again(client: Client) -> None:
    with pytest.raises(asyncio.CancelledError):
        await client.send(die="before")

    assert await client.send() == 201
    assert await client.send() == 201
    assert client.done == 1


async def test_killed_between_act_and_answer_it_is_never_done_again(client: Client) -> None:
    with pytest.raises(asyncio.CancelledError):
        await client.send(die="after")

    for _ in range(2):
        with pytest.raises(Conflict, match="was begun"):
            await client.send()
    with pytest.raises(Invalid, match="another request"):
        await client.send(body=b"[]")
    assert client.done == 1


async def test_while_it_runs_in_another_process_a_second_one_waits_for_nothing(client: Client, database: str) -> None:
    hold = asyncio.Event()
    running = asyncio.ensure_future(client.send(hold=hold))
    other = Client(client.pool, database)
    while not await client.pool.fetchval("SELECT count(*) FROM voicemail.idempotency"):
        await asyncio.sleep(0.01)

    with pytest.raises(Conflict, match="still running"):
        await other.send()
    hold.set()

    assert await running == 201
    assert await other.send() == 201
    assert (client.done, other.done) == (1, 0)
    await other.claims.close()


async def test_a_run_whose_lock_was_lost_cannot_commit_after_another_took_over(client: Client, database: str) -> None:
    hold = asyncio.Event()
    running = asyncio.ensure_future(client.send(hold=hold))
    while not await client.pool.fetchval("SELECT count(*) FROM voicemail.idempotency"):
        await asyncio.sleep(0.01)
    await client.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'voicemail claims'"
    )
    other = Client(client.pool, database)

    assert await other.send() == 201
    hold.set()
    with pytest.raises(Conflict, match="took over"):
        await running

    assert (client.done, other.done) == (0, 1)
    await other.claims.close()


async def test_after_a_day_a_key_is_forgotten(client: Client) -> None:
    await client.send()
    await client.pool.execute("UPDATE voicemail.idempotency SET begun_at = now() - interval '25 hours'")

    assert await client.send(body=b"[]") == 201  # also before it is swept
    await client.pool.execute("UPDATE voicemail.idempotency SET begun_at = now() - interval '25 hours'")
    await Idempotency(client.pool, client.claims).forget()

    assert await client.pool.fetchval("SELECT count(*) FROM voicemail.idempotency") == 0
