"""Mailboxes of several domains through the API: what a token may not see is answered as what is not there."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from app.access.grant import Grant
from app.access.scopes import ALL_SCOPES, Scope
from app.addressing import Domain, Extension, MailboxAddress, MailboxKey
from app.sandbox.switch import StandInSwitch
from tests.support.access_tokens import make_token
from tests.support.pbx import DOMAIN, Site

SECOND, THIRD = "second.local", "third.local"
BODY = {"password": "1", "enabled": True}
HOSTILE = ["..", "a/b", "a%0Ab", "a\nb", "a'b", "<a>", "ä.local", "🎉", "a" * 300, ".local", "local.", "a\0b"]


@pytest.fixture
async def site(database: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A service with a folder for each domain, and mailboxes 101 in two of them."""
    for name in ("recordings", "directory"):
        (tmp_path / name).mkdir()
    root = tmp_path / "directory"
    further = {name: root / name for name in (SECOND, THIRD)}
    found = Site(database, tmp_path, StandInSwitch(database, tmp_path / "recordings", root / DOMAIN, DOMAIN, further=further))
    try:
        await found.open(directory_path=root / "{domain}")
        for name in (SECOND, THIRD):
            async with found.client.post("/v1/domain", json={"name": name}) as answer:
                assert answer.status == 201
        yield found
    finally:
        await found.close()


async def call(
    site: Site, token: str, method: str, path: str, *, body: Mapping[str, Any] | None = None, **query: str
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    """Status, body and headers of a call."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(site.client._base_url, headers=headers) as session,
        session.request(method, path, params=query, json=body) as answer,
    ):
        return answer.status, await answer.json(), dict(answer.headers)


async def test_a_token_acts_in_its_default_domain_and_names_another_of_its_own(site: Site) -> None:
    first, second = await site.create(password="1111"), await site.create(password="2222", domain=SECOND)
    token = await make_token(site.dsn, "two", [SECOND, DOMAIN])

    assert (await call(site, token, "GET", "/v1/voicemail/101"))[1] == second
    assert (await call(site, token, "GET", "/v1/voicemail/101", domain=DOMAIN))[1] == first
    assert (await call(site, token, "GET", f"/v1/voicemail/{first['id']}"))[0] == 404
    assert (await call(site, token, "GET", "/v1/voicemail/101", domain=""))[1] == second
    assert (await call(site, token, "GET", "/v1/voicemail"))[1]["data"] == [second]
    assert (await call(site, token, "GET", "/v1/voicemail", domain=DOMAIN))[1]["data"] == [first]
    everything = (await call(site, token, "GET", "/v1/voicemail", domain="*"))[1]
    assert (everything["data"], everything["total"]) == ([first, second], 2)
    assert (await call(site, token, "GET", "/v1/voicemail", domain="*", limit="1", offset="1"))[1]["data"] == [second]

    status, made, headers = await call(site, token, "POST", "/v1/voicemail", body={"extension": "102", **BODY, "domain": DOMAIN})
    assert (status, made["data"]["domain"]) == (201, DOMAIN)
    assert headers["Location"] == f"/v1/voicemail/{made['data']['id']}?domain={DOMAIN}"
    assert (await call(site, token, "GET", headers["Location"]))[1]["id"] == made["data"]["id"]
    assert (await call(site, token, "GET", "/v1/voicemail", domain="*"))[1]["total"] == 3


async def test_what_is_of_another_domain_is_answered_as_what_is_not_there(site: Site) -> None:
    hidden = await site.create("777")
    mine = await site.create(domain=SECOND)
    token = await make_token(site.dsn, "second", [SECOND])
    poor = await make_token(site.dsn, "poor", [SECOND], ALL_SCOPES - {Scope.MAILBOX_READ, Scope.MAILBOX_WRITE})

    for method, body in (("GET", None), ("PUT", BODY), ("PATCH", {"enabled": False}), ("DELETE", None)):
        for asking in (token, poor):
            absent = await call(site, asking, method, f"/v1/voicemail/{uuid4()}", body=body)
            assert absent[0] == 404
            for key in ("777", hidden["id"], "888"):
                for query in ({}, {"domain": DOMAIN}, {"domain": "nowhere.example"}):
                    found = await call(site, asking, method, f"/v1/voicemail/{key}", body=body, **query)
                    assert found[:2] == absent[:2]
                    assert found[2].keys() == absent[2].keys()
            assert (await call(site, asking, method, "/v1/voicemail/101", body=body, domain=DOMAIN))[:2] == absent[:2]
        assert (await call(site, poor, method, "/v1/voicemail/101", body=body))[0] == 403
    assert await site.get("/v1/voicemail/777") == hidden
    assert mine["domain"] == SECOND

    for path, method, body in (("/v1/voicemail", "GET", None), ("/v1/voicemail", "POST", {"extension": "777", **BODY})):
        answers = []
        for domain in (DOMAIN, "nowhere.example"):
            named = {"body": {**body, "domain": domain}} if body else {"domain": domain}
            answers.append((await call(site, token, method, path, **named))[:2])  # type: ignore[arg-type]
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
    assert (await call(site, token, "GET", "/v1/voicemail", domain="*"))[1]["data"] == [mine]


async def test_a_domain_that_is_not_there_is_404_also_for_a_token_of_every_domain(site: Site) -> None:
    for query in ("?domain=nowhere.example", "/101?domain=nowhere.example"):
        async with site.client.get(f"/v1/voicemail{query}") as answer:
            assert answer.status == 404
    async with site.client.post("/v1/voicemail", json={"extension": "1", **BODY, "domain": "nowhere.example"}) as answer:
        assert (answer.status, (await answer.json())["detail"]) == (404, "there is no such domain")
    assert (await site.get(f"/v1/voicemail?domain={THIRD}"))["total"] == 0


async def test_what_is_no_domain_is_422_and_makes_no_folder(site: Site) -> None:
    body = {"extension": "101", **BODY}
    token = await make_token(site.dsn, "mine", [DOMAIN])
    for text in HOSTILE:
        for status, problem, _ in (
            await call(site, token, "POST", "/v1/voicemail", body={**body, "domain": text}),
            await call(site, token, "GET", "/v1/voicemail", domain=text),
            await call(site, token, "GET", "/v1/voicemail/101", domain=text),
        ):
            assert status == 422, text
            assert [error["field"] for error in problem["errors"]] == ["domain"]
    status, problem, _ = await call(site, token, "POST", "/v1/voicemail", body={**body, "domain": ""})
    assert (status, problem["errors"][0]["field"]) == (422, "domain")
    assert {path.name for path in (site.folder / "directory").iterdir()} <= {DOMAIN, SECOND, THIRD}


async def test_a_mailbox_that_was_read_may_be_sent_back_but_moves_to_no_other_domain(site: Site) -> None:
    mailbox = await site.create(domain=SECOND)
    path = f"/v1/voicemail/{mailbox['id']}?domain={SECOND}"

    async with site.client.put(path, json=mailbox) as answer:
        assert answer.status == 200, await answer.text()
    for method, body in (("PUT", mailbox), ("PATCH", {})):
        async with site.client.request(method, path, json={**body, "domain": DOMAIN}) as answer:
            assert answer.status == 422
            assert [error["field"] for error in (await answer.json())["errors"]] == ["domain"]
    async with site.client.delete(path) as answer:
        assert answer.status == 200
    async with site.client.post("/v1/voicemail", json=mailbox) as answer:
        assert (answer.status, (await answer.json())["data"]["id"]) == (201, mailbox["id"])


async def test_without_a_place_for_the_domain_in_the_path_a_second_domain_is_refused_by_name_of_the_setting(
    database: str, tmp_path: Path
) -> None:
    for name in ("recordings", "directory"):
        (tmp_path / name).mkdir()
    site = Site(database, tmp_path, StandInSwitch(database, tmp_path / "recordings", tmp_path / "directory", DOMAIN))
    try:
        await site.open()
        async with site.client.post("/v1/domain", json={"name": SECOND}) as answer:
            assert answer.status == 201
        async with site.client.post("/v1/voicemail", json={"extension": "101", **BODY, "domain": SECOND}) as answer:
            problem = await answer.json()
        assert answer.status == 422
        assert problem["errors"][0]["field"] == "domain"
        assert "VOICEMAIL_DIRECTORY_PATH has no {domain}" in problem["errors"][0]["message"]
        assert (await site.create())["directory"]["state"] == "applied"
        assert (await site.get("/v1/voicemail?domain=*"))["total"] == 1
    finally:
        await site.close()


async def test_a_token_s_second_domain_is_deleted_only_without_mailboxes(site: Site) -> None:
    await site.create(domain=THIRD)
    async with site.client.delete(f"/v1/domain/{THIRD}") as answer:
        assert answer.status == 409
    async with site.client.delete(f"/v1/voicemail/101?domain={THIRD}") as answer:
        assert answer.status == 200
    async with site.client.delete(f"/v1/domain/{THIRD}") as answer:
        assert answer.status == 200
    async with site.client.post("/v1/voicemail", json={"extension": "101", **BODY, "domain": THIRD}) as answer:
        assert answer.status == 404


def test_a_key_is_an_id_an_extension_either_or_nothing() -> None:
    id_ = uuid4()
    assert MailboxKey.parse(str(id_)) == MailboxKey(id_, None)
    assert MailboxKey.parse("101") == MailboxKey(None, Extension("101"))
    assert MailboxKey.parse("0" * 32) == MailboxKey(UUID(int=0), Extension("0" * 32))
    for text in ("..", "", "a/b", "message", "🎉", "x" * 65):
        assert MailboxKey.parse(text) == MailboxKey(None, None)


def test_a_grant_for_one_mailbox_sees_no_other() -> None:
    one = MailboxAddress(Extension("101"), Domain(SECOND))
    grant = Grant("one", frozenset({Domain(SECOND)}), Domain(SECOND), ALL_SCOPES, one)

    assert grant.sees(one)
    assert not grant.sees(MailboxAddress(Extension("101"), Domain(DOMAIN)))
    assert not grant.sees(MailboxAddress(Extension("102"), Domain(SECOND)))
