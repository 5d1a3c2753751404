"""Who may ask: bearer tokens, what they show, and what never comes out."""

import asyncio
from uuid import uuid4

import aiohttp
import asyncpg
import pytest
from structlog.testing import capture_logs

from app.database.pool import open_pool
from tests.support import access_tokens
from tests.support.pbx import DOMAIN, TOKEN, Site
from tests.support.switch_rows import insert, switch_row

PATHS = [
    ("GET", "/v1/voicemail"), ("POST", "/v1/voicemail"), ("GET", "/v1/voicemail/1"), ("PUT", "/v1/voicemail/1"),
    ("DELETE", "/v1/voicemail/1"), ("GET", "/v1/voicemail/message"), ("GET", "/v1/voicemail/message/1"),
    ("GET", "/v1/voicemail/message/1/download"), ("GET", "/v1/voicemail/message/1/notification"), ("GET", "/v1/nothing"),
]  # fmt: skip


def bearer(token: str) -> dict[str, str]:
    """The header for a token."""
    return {"Authorization": f"Bearer {token}"}


async def make_token(site: Site, name: str, domains: list[str] | None = None) -> str:
    """A token as ``voicemail token create`` makes it, with every scope."""
    return await access_tokens.make_token(site.dsn, name, domains)


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_a_token_nothing_is_told(api: Site, method: str, path: str) -> None:
    async with aiohttp.ClientSession(api.client._base_url) as nobody, nobody.request(method, path, json={}) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.content_type == "application/problem+json"
        assert (await answer.json())["status"] == 401


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YTpi", f"Basic {TOKEN}", TOKEN, "Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}",
     "Bearer \xff\xfe", "Bearer " + "x" * 4000, "Bearer ' OR 1=1 --"],
    ids=range(13),
)  # fmt: skip
async def test_a_wrong_token_is_refused(api: Site, header: str) -> None:
    async with api.client.get("/v1/voicemail", headers={"Authorization": header}) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_s_case_does_not_matter(api: Site, scheme: str) -> None:
    async with api.client.get("/v1/voicemail", headers={"Authorization": f"{scheme} {TOKEN}"}) as answer:
        assert answer.status == 200


async def test_a_token_works_until_it_is_revoked_and_is_kept_as_its_digest_only(api: Site) -> None:
    token = await make_token(api, "phone-book")
    async with api.client.get("/v1/voicemail", headers=bearer(token)) as answer:
        assert answer.status == 200
    connection = await asyncpg.connect(api.dsn)
    stored = await connection.fetchrow(
        "SELECT * FROM voicemail.api_token t JOIN voicemail.api_token_secret s ON s.token = t.name WHERE t.name = 'phone-book'"
    )
    assert stored is not None
    assert len(stored["digest"]) == 32
    assert token not in repr(tuple(stored))
    await connection.close()


async def test_a_revoked_token_is_refused_by_a_service_that_has_not_seen_it_lately(api: Site) -> None:
    token = await make_token(api, "gone")
    await access_tokens.revoke_token(api.dsn, "gone")

    async with api.client.get("/v1/voicemail", headers=bearer(token)) as answer:
        assert answer.status == 401
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_a_token_of_another_domain_sees_nothing(api: Site, extension: str) -> None:
    mailbox = await api.create(extension)
    pool = await open_pool(api.dsn, application_name="test")
    row = switch_row(username=extension)
    await insert(pool, row)
    pool.terminate()
    other, own = await make_token(api, "other", ["elsewhere.example"]), await make_token(api, "own", [DOMAIN])

    for path in (f"/v1/voicemail/{extension}", f"/v1/voicemail/{mailbox['id']}", f"/v1/voicemail/message/{row['uuid']}",
                 f"/v1/voicemail/message/{extension}", f"/v1/voicemail/message/{row['uuid']}/download"):  # fmt: skip
        async with api.client.get(path, headers=bearer(other)) as answer:
            assert answer.status == 404, path
    for path in ("/v1/voicemail", "/v1/voicemail/message", f"/v1/voicemail/message?extension={extension}"):
        async with api.client.get(path, headers=bearer(other)) as answer:
            assert (await answer.json())["total"] == 0
    async with api.client.post(
        "/v1/voicemail", headers=bearer(other), json={"extension": "55", "password": "1", "enabled": True, "domain": DOMAIN}
    ) as answer:
        assert answer.status == 404
    async with api.client.delete(f"/v1/voicemail/{extension}", headers=bearer(other)) as answer:
        assert answer.status == 404
    async with api.client.get(f"/v1/voicemail/{extension}", headers=bearer(own)) as answer:
        assert (await answer.json()) == mailbox


async def test_every_answer_has_a_request_id_and_a_given_one_is_kept(api: Site) -> None:
    async with api.client.get("/v1/voicemail", headers={"X-Request-ID": "abc-123"}) as answer:
        assert answer.headers["X-Request-ID"] == "abc-123"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for odd in ("x" * 65, "a b", "<script>"):
        async with api.client.get("/v1/nothing", headers={"X-Request-ID": odd}) as answer:
            assert answer.headers["X-Request-ID"] != odd
            assert answer.headers["X-Request-ID"]


async def test_no_secret_is_logged_or_told(api: Site, extension: str, capsys: pytest.CaptureFixture[str]) -> None:
    pin, changed, token = f"pin{uuid4().hex}", f"new{uuid4().hex}", await make_token(api, "quiet")
    with capture_logs() as logs:
        await api.create(extension, password=pin, description="seen")
        for body in (
            {"password": changed, "enabled": True},
            {"password": changed, "enabled": "no"},
            {"password": changed * 9, "enabled": True},
        ):
            async with api.client.put(f"/v1/voicemail/{extension}", json=body, headers=bearer(token)) as answer:
                text = await answer.text()
                assert changed not in text
        async with api.client.get(f"/v1/voicemail?token={token}", headers=bearer(token + "x")) as answer:
            assert token not in await answer.text()
        async with api.client.delete(f"/v1/voicemail/{extension}") as answer:
            assert answer.status == 200
        await asyncio.sleep(0.2)

    told = repr(logs) + "".join(capsys.readouterr())
    assert any(line["event"] == "mailbox_created" for line in logs)
    assert any(line["event"] == "request" for line in logs)
    for secret in (pin, changed, token, TOKEN):
        assert secret not in told
