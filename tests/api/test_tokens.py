"""Tokens over HTTP: made, shown, rotated and revoked, and nobody gives away more than they have."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from app.access import credentials
from app.access.scopes import ALL_SCOPES, Scope
from tests.support.access_tokens import make_token
from tests.support.pbx import DOMAIN, PATIENCE, Site


def bearer(token: str) -> dict[str, str]:
    """The header for a token."""
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def name() -> str:
    return f"t{uuid4().hex[:12]}"


async def ask(site: Site, method: str, path: str, token: str | None = None, **request: Any) -> tuple[int, dict[str, Any]]:
    """Status and body of a call."""
    headers = bearer(token) if token else {}
    async with site.client.request(method, path, headers=headers, **request) as answer:
        return answer.status, await answer.json()


async def create(site: Site, name: str, **fields: Any) -> tuple[dict[str, Any], str]:
    """A token made by the API: what is shown of it, and its text."""
    body = {"name": name, "domains": [DOMAIN], "scopes": ["mailbox:read"]} | fields
    async with site.client.post("/v1/token", json=body) as answer:
        made = await answer.json()
        assert answer.status == 201, made
        assert answer.headers["Location"] == f"/v1/token/{name}"
        assert answer.headers["Cache-Control"] == "no-store"
    return made["data"], made["token"]


async def works(site: Site, token: str) -> bool:
    """Whether a request with this token is let in."""
    status, _ = await ask(site, "GET", "/v1/voicemail", token)
    assert status in {200, 401}
    return status == 200


async def until_refused(site: Site, token: str) -> None:
    """Wait until the token is refused, for less time than a grant is cached while changes are heard of."""
    async with asyncio.timeout(PATIENCE):
        while await works(site, token):
            await asyncio.sleep(0.02)


async def test_a_token_is_made_shown_and_used(api: Site, name: str) -> None:
    shown, text = await create(api, name)

    assert credentials.well_formed(text)
    assert (shown["name"], shown["domains"], shown["scopes"], shown["default_domain"]) == (
        name,
        [DOMAIN],
        ["mailbox:read"],
        DOMAIN,
    )
    assert (shown["last_used_at"], shown["old_valid_until"]) == (None, None)
    left = datetime.fromisoformat(shown["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=364) < left <= timedelta(days=365)
    assert await ask(api, "GET", f"/v1/token/{name}") == (200, shown)
    assert await works(api, text)
    _, page = await ask(api, "GET", "/v1/token?limit=1000")
    assert shown["name"] in [token["name"] for token in page["data"]]
    assert page["total"] == len(page["data"])
    assert text not in str(page)


async def test_every_domain_and_every_scope_are_said_aloud(api: Site, name: str) -> None:
    shown, _ = await create(api, name, domains=["*"], scopes=["*"])

    assert (shown["domains"], shown["scopes"], shown["default_domain"]) == (["*"], ["*"], None)


async def test_the_default_domain_is_the_first_or_the_one_that_is_said(api: Site, name: str) -> None:
    await ask(api, "POST", "/v1/domain", json={"name": f"{name}.example"})
    first, _ = await create(api, f"{name}-1", domains=[f"{name}.example", DOMAIN])
    said, _ = await create(api, f"{name}-2", domains=[f"{name}.example", DOMAIN], default_domain=DOMAIN)
    everywhere, _ = await create(api, f"{name}-3", domains=["*"], default_domain=f"{name}.example")

    assert first["default_domain"] == everywhere["default_domain"] == f"{name}.example"
    assert said["default_domain"] == DOMAIN


async def test_last_used_is_noted_to_the_minute_and_not_by_refused_calls(api: Site, name: str) -> None:
    _, text = await create(api, name)
    await works(api, text[:-1])
    before = datetime.now(UTC).replace(second=0, microsecond=0)
    assert await works(api, text)

    async with asyncio.timeout(PATIENCE):
        while not (used := (await ask(api, "GET", f"/v1/token/{name}"))[1]["last_used_at"]):
            await asyncio.sleep(0.1)

    moment = datetime.fromisoformat(used)
    assert before <= moment <= datetime.now(UTC)
    assert (moment.second, moment.microsecond) == (0, 0)


async def test_a_rotated_token_works_beside_its_old_text_until_the_overlap_is_over(api: Site, name: str) -> None:
    _, old = await create(api, name)
    assert await works(api, old)

    status, rotated = await ask(api, "POST", f"/v1/token/{name}/rotate", json={"overlap": 2})

    assert status == 200
    assert rotated["data"]["old_valid_until"] is not None
    new = rotated["token"]
    assert new != old
    assert await works(api, new)
    assert await works(api, old)
    await until_refused(api, old)
    status, body = await ask(api, "GET", "/v1/voicemail", old)
    assert (status, "expired" in body["detail"]) == (401, True)
    assert await works(api, new)
    assert (await ask(api, "GET", f"/v1/token/{name}"))[1]["old_valid_until"] is None


async def test_a_rotation_without_overlap_ends_every_older_text_at_once(api: Site, name: str) -> None:
    _, first = await create(api, name)
    _, second = await ask(api, "POST", f"/v1/token/{name}/rotate", json={})
    for text in (first, second["token"]):
        assert await works(api, text)

    _, third = await ask(api, "POST", f"/v1/token/{name}/rotate", json={"overlap": 0})

    for text in (first, second["token"]):
        await until_refused(api, text)
    assert await works(api, third["token"])


async def test_a_rotation_does_not_make_a_text_live_longer(api: Site, name: str) -> None:
    _, old = await create(api, name, expires_at=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())
    _, rotated = await ask(api, "POST", f"/v1/token/{name}/rotate", json={"overlap": 86400})

    assert datetime.fromisoformat(rotated["data"]["old_valid_until"]) <= datetime.now(UTC) + timedelta(seconds=2)
    await until_refused(api, old)


async def test_an_expired_token_is_refused_although_it_was_used_before(api: Site, name: str) -> None:
    _, text = await create(api, name, expires_at=(datetime.now(UTC) + timedelta(seconds=1.5)).isoformat())
    assert await works(api, text)

    await until_refused(api, text)

    status, body = await ask(api, "GET", "/v1/voicemail", text)
    assert (status, body["detail"]) == (401, "this token has expired")


async def test_a_revoked_token_is_refused_and_gone(api: Site, name: str) -> None:
    _, text = await create(api, name)
    assert await works(api, text)

    assert await ask(api, "DELETE", f"/v1/token/{name}") == (200, {"message": "successfully"})

    await until_refused(api, text)
    for method, path, body in (("GET", "", None), ("DELETE", "", None), ("POST", "/rotate", {})):
        status, _ = await ask(api, method, f"/v1/token/{name}{path}", json=body)
        assert status == 404
    await create(api, name)
    assert not await works(api, text)


async def test_a_name_that_is_taken_is_a_conflict(api: Site, name: str) -> None:
    _, text = await create(api, name)

    status, _ = await ask(api, "POST", "/v1/token", json={"name": name, "domains": ["*"], "scopes": ["*"]})

    assert status == 409
    assert await works(api, text)


HOSTILE = ["", " ", "a b", "a\nb", "%0Aapi", "a\u0000b", "../x", "..", "x" * 300, "🎉", "<x/>", "'; DROP TABLE x; --", "*", "a,b"]


@pytest.mark.parametrize(
    ("field", "value"),
    [*(("name", text) for text in HOSTILE), ("name", "VOICEMAIL_API_TOKEN"), ("name", None), ("name", 5), ("name", ["x"]),
     *(("domains", [text]) for text in HOSTILE if text != "*"), ("domains", []), ("domains", None), ("domains", "*"), ("domains", ["*", DOMAIN]),
     ("domains", ["nowhere.example"]), ("domains", [5]), ("domains", [DOMAIN] * 1001),
     *(("scopes", [text]) for text in HOSTILE if text != "*"), ("scopes", []), ("scopes", None), ("scopes", ["*", "admin"]), ("scopes", ["ADMIN"]),
     ("default_domain", "*"), ("default_domain", "elsewhere.example"), ("default_domain", "a\nb"), ("default_domain", 5),
     ("expires_at", "2020-01-01T00:00:00Z"), ("expires_at", "2999-01-01T00:00:00Z"), ("expires_at", "2027-01-01T00:00:00"),
     ("expires_at", "9999-12-31T23:59:59-14:00"), ("expires_at", "0001-01-01T00:00:00+14:00"), ("expires_at", "soon"), ("expires_at", 1e300),
     ("scope", ["admin"])],
)  # fmt: skip
async def test_a_wrong_field_is_named_and_nothing_is_made(api: Site, name: str, field: str, value: object) -> None:
    body = {"name": name, "domains": [DOMAIN], "scopes": ["mailbox:read"], field: value}

    status, problem = await ask(api, "POST", "/v1/token", json=body)

    assert status == 422
    assert {error["field"].split(".")[0] for error in problem["errors"]} == {field}
    assert (await ask(api, "GET", f"/v1/token/{name}"))[0] == 404


@pytest.mark.parametrize("overlap", [-1, 31 * 86400, 1.5, "60", 10**30, True])
async def test_a_wrong_overlap_is_named_and_the_token_stays(api: Site, name: str, overlap: object) -> None:
    _, text = await create(api, name)

    status, problem = await ask(api, "POST", f"/v1/token/{name}/rotate", json={"overlap": overlap})

    assert (status, [error["field"] for error in problem["errors"]]) == (422, ["overlap"])
    assert await works(api, text)


@pytest.mark.parametrize("path", ["%00", "%0A", "..%2f..", "%F0%9F%8E%89", "a%20b", "x" * 300, "%27%3B--", "*"])
async def test_a_hostile_name_in_a_path_is_just_not_there(api: Site, path: str) -> None:
    status, _ = await ask(api, "GET", f"/v1/token/{path}")

    assert status == 404


async def limited(site: Site, name: str, domains: Iterable[str] | None, scopes: Iterable[Scope]) -> str:
    """A token that may administer, within limits."""
    return await make_token(site.dsn, f"{name}-admin", domains, scopes)


async def test_nobody_gives_away_a_scope_they_lack(api: Site, name: str) -> None:
    admin = await limited(api, name, None, {Scope.ADMIN, Scope.MAILBOX_READ})
    await create(api, f"{name}-strong", scopes=["*"])
    body = {"name": name, "domains": [DOMAIN]}

    for scopes, missing in ((["mailbox:read", "pin:read"], "pin:read"), (["*"], "event:read")):
        status, problem = await ask(api, "POST", "/v1/token", admin, json=body | {"scopes": scopes})
        assert (status, missing in problem["detail"]) == (403, True)
    status, problem = await ask(api, "POST", f"/v1/token/{name}-strong/rotate", admin, json={})
    assert status == 403
    status, _ = await ask(api, "POST", "/v1/token", admin, json=body | {"scopes": ["mailbox:read"]})
    assert status == 201


async def test_an_administrator_of_some_domains_sees_and_makes_tokens_of_those_only(api: Site, name: str) -> None:
    inside = f"{name}.example"
    admin = await limited(api, name, [inside], ALL_SCOPES)
    await create(api, f"{name}-foreign")
    await create(api, f"{name}-wide", domains=["*"])
    await create(api, f"{name}-both", domains=[inside, DOMAIN])
    await create(api, f"{name}-own", domains=[inside])

    _, page = await ask(api, "GET", "/v1/token", admin)
    assert [token["name"] for token in page["data"]] == [f"{name}-admin", f"{name}-own"]
    assert page["total"] == 2
    absent = await ask(api, "GET", f"/v1/token/{name}-nothing", admin)
    for kind in ("foreign", "wide", "both"):
        for method, path, body in (("GET", "", None), ("DELETE", "", None), ("POST", "/rotate", {})):
            assert await ask(api, method, f"/v1/token/{name}-{kind}{path}", admin, json=body) == absent

    new = {"name": f"{name}-new", "scopes": ["mailbox:read"]}
    foreign = await ask(api, "POST", "/v1/token", admin, json=new | {"domains": [DOMAIN]})
    nowhere = await ask(api, "POST", "/v1/token", admin, json=new | {"domains": ["nowhere.example"]})
    assert foreign[0] == nowhere[0] == 422
    assert str(foreign[1]).replace(DOMAIN, "nowhere.example") == str(nowhere[1])
    assert (await ask(api, "POST", "/v1/token", admin, json=new | {"domains": ["*"]}))[0] == 403
    assert (await ask(api, "POST", "/v1/token", admin, json=new | {"domains": [inside]}))[0] == 201
    assert (await ask(api, "DELETE", f"/v1/token/{name}-new", admin))[0] == 200


async def test_no_token_s_text_is_in_the_database(api: Site, name: str) -> None:
    _, text = await create(api, name)
    connection = await asyncpg.connect(api.dsn)
    for table in ("api_token", "api_token_domain", "api_token_secret"):
        rows = await connection.fetch(f"SELECT t::text FROM voicemail.{table} t")
        assert rows
        assert text not in str(rows)
        assert text[3:40] not in str(rows)
    await connection.close()
