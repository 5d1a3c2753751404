"""Every route of openapi.json with no token, an expired one, each missing scope and a token of another domain; an unknown route fails.

Two domains have the extension 7001, and a message of the same call in it; 7002 is in the service's own domain only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from app.access.scopes import ALL_SCOPES, Scope
from app.sandbox.switch import StandInSwitch
from tests.support.access_tokens import make_token
from tests.support.pbx import DOMAIN, Site
from tests.support.two_domains import OTHER, put_mailbox
from tests.support.two_domains import call as leave_in

MAILBOX = {"extension": "{new}", "password": "1", "enabled": True, "domain": DOMAIN}
CHANGE = {"password": "1", "enabled": True}
TOKEN_BODY = {"name": "{new}", "domains": [DOMAIN], "scopes": ["message:read"]}


@dataclass(frozen=True)
class Route:
    """How a route is called, with names for what is there and for what is not."""

    scope: Scope | None
    optional: Scope | None = field(default=None, kw_only=True)  # what a token may add to a public route's answer
    there: tuple[str, ...] = ()  # what stands for the variable part of the path, each of them
    body: Mapping[str, Any] | None = None
    absent: int = 404  # the status for a thing that is not there
    hidden: bool = field(default=False)  # whether a token that lacks the scope is refused alike for what is there and what is not
    foreign: str = (
        "absent"  # to a token of another domain: "absent", "list" (of its own), or "own" (the same answer as to anybody)
    )


KEYS = ("{extension}", "{id}", "{lone}", "{lone id}")
MESSAGES = ("{extension}", "{message}", "{lone}", "{lone message}")
IDS = ("{message}", "{lone message}")  # an extension names no message to be changed
IN_BOTH = "{extension}"  # to a token of the other domain it is that domain's own
OWN_EVERYWHERE = (
    "GET /v1/voicemail/message/{key}",
    "GET /v1/voicemail/message/{key}/download",
    "GET /v1/voicemail/message/{key}/waveform",
    "GET /v1/voicemail/message/{key}/link",
    "GET /v1/voicemail/message/{key}/notification",
)
ROUTES: dict[str, Route] = {
    "GET /healthz": Route(None),
    "GET /readyz": Route(None, optional=Scope.ADMIN),
    "GET /v1/voicemail": Route(Scope.MAILBOX_READ, foreign="list"),
    "POST /v1/voicemail": Route(Scope.MAILBOX_WRITE, body=MAILBOX),
    "GET /v1/voicemail/{key}": Route(Scope.MAILBOX_READ, KEYS),
    "PUT /v1/voicemail/{key}": Route(Scope.MAILBOX_WRITE, KEYS, CHANGE),
    "PATCH /v1/voicemail/{key}": Route(Scope.MAILBOX_WRITE, KEYS, {}),
    "DELETE /v1/voicemail/{key}": Route(Scope.MAILBOX_WRITE, KEYS),
    "POST /v1/voicemail/{key}/pin": Route(Scope.MAILBOX_WRITE, KEYS),
    "DELETE /v1/voicemail/{key}/lock": Route(Scope.MAILBOX_WRITE, KEYS),
    "GET /v1/voicemail/{key}/message": Route(Scope.MESSAGE_READ, KEYS),
    "GET /v1/voicemail/{key}/count": Route(Scope.MESSAGE_READ, KEYS),
    "GET /v1/voicemail/{key}/greeting": Route(Scope.MAILBOX_READ, KEYS),
    "POST /v1/voicemail/{key}/greeting/default": Route(Scope.MAILBOX_WRITE, KEYS),
    "GET /v1/voicemail/{key}/greeting/{slot}": Route(Scope.MAILBOX_READ, KEYS),
    "PUT /v1/voicemail/{key}/greeting/{slot}": Route(Scope.MAILBOX_WRITE, KEYS),
    "DELETE /v1/voicemail/{key}/greeting/{slot}": Route(Scope.MAILBOX_WRITE, KEYS),
    "POST /v1/voicemail/{key}/greeting/{slot}/activate": Route(Scope.MAILBOX_WRITE, KEYS),
    "POST /v1/voicemail/{key}/message": Route(Scope.MESSAGE_WRITE, KEYS),
    "GET /v1/voicemail/message": Route(Scope.MESSAGE_READ, foreign="list"),
    "GET /v1/voicemail/message/{key}": Route(Scope.MESSAGE_READ, MESSAGES),
    "PATCH /v1/voicemail/message/{key}": Route(Scope.MESSAGE_WRITE, IDS, {}),
    "DELETE /v1/voicemail/message/{key}": Route(Scope.MESSAGE_WRITE, IDS),
    "POST /v1/voicemail/message/bulk": Route(Scope.MESSAGE_WRITE, body={"ids": ["n"], "action": "read"}, foreign="own"),
    "POST /v1/voicemail/message/{key}/move": Route(Scope.MESSAGE_WRITE, IDS, {"to": ["z9"]}),
    "POST /v1/voicemail/message/{key}/copy": Route(Scope.MESSAGE_WRITE, IDS, {"to": ["z9"]}),
    "POST /v1/voicemail/message/{key}/forward": Route(Scope.MESSAGE_WRITE, IDS, {"to": ["z9"]}),
    "POST /v1/voicemail/message/{key}/restore": Route(Scope.MESSAGE_WRITE, IDS),
    "GET /v1/voicemail/message/{key}/download": Route(Scope.MESSAGE_AUDIO, MESSAGES),
    "POST /v1/voicemail/message/download": Route(Scope.MESSAGE_AUDIO, body={"ids": ["{lone message}"]}),
    "GET /v1/voicemail/message/{key}/waveform": Route(Scope.MESSAGE_AUDIO, MESSAGES),
    "POST /v1/voicemail/message/{key}/link": Route(Scope.MESSAGE_AUDIO, MESSAGES, {}),
    "GET /v1/voicemail/message/{key}/link": Route(Scope.MESSAGE_AUDIO, MESSAGES),
    "DELETE /v1/voicemail/message/{key}/link": Route(Scope.MESSAGE_AUDIO, MESSAGES),
    "DELETE /v1/voicemail/message/{key}/link/{link}": Route(Scope.MESSAGE_AUDIO, MESSAGES),
    "GET /link/{secret}": Route(None),
    "GET /v1/voicemail/message/{key}/notification": Route(Scope.NOTIFICATION_READ, MESSAGES),
    "GET /v1/token": Route(Scope.ADMIN, hidden=True, foreign="own"),
    "POST /v1/token": Route(Scope.ADMIN, body=TOKEN_BODY, hidden=True, foreign="own"),
    "GET /v1/token/{name}": Route(Scope.ADMIN, ("{token}",), hidden=True),
    "POST /v1/token/{name}/rotate": Route(Scope.ADMIN, ("{token}",), {}, hidden=True),
    "DELETE /v1/token/{name}": Route(Scope.ADMIN, ("{token}",), hidden=True),
    "GET /v1/audit": Route(Scope.ADMIN, hidden=True, foreign="own"),
    "GET /v1/domain": Route(Scope.ADMIN, hidden=True, foreign="own"),
    "POST /v1/domain": Route(Scope.ADMIN, body={"name": "{new}"}, hidden=True, foreign="own"),
    "GET /v1/domain/{name}": Route(Scope.ADMIN, (DOMAIN,), hidden=True),
    "PUT /v1/domain/{name}": Route(Scope.ADMIN, (DOMAIN,), {}, hidden=True),
    "PATCH /v1/domain/{name}": Route(Scope.ADMIN, (DOMAIN,), {}, hidden=True),
    "DELETE /v1/domain/{name}": Route(Scope.ADMIN, (DOMAIN,), hidden=True),
}
GUARDED = [name for name, route in ROUTES.items() if route.scope]


@dataclass(frozen=True)
class Things:
    """What is there, and tokens to ask for it."""

    names: Mapping[str, str]
    tokens: Mapping[str, str]
    others: frozenset[str]  # the ids of what is in the other domain


@pytest.fixture(scope="module")
async def things(api: Site) -> Things:
    """Mailboxes with messages and their notifications in two domains, and tokens of every kind."""
    mailbox, lone = await api.create("7001"), await api.create("7002")
    left, lone_left = await api.switch.leave_message("7001"), await api.switch.leave_message("7002")
    for one in (left, lone_left):
        await api.until(f"/v1/voicemail/message/{one.uuid}/notification", state="sent")
    tokens = {
        "own": await make_token(api.dsn, "own-domain", [DOMAIN]),
        "other": await make_token(api.dsn, "other-domain", [OTHER]),
        "expired": await make_token(api.dsn, "expired"),
        "seen": await make_token(api.dsn, "seen", [DOMAIN], [Scope.MESSAGE_READ]),
    }
    for scope in Scope:
        tokens[f"without {scope}"] = await make_token(api.dsn, f"without-{scope.name.lower()}", [DOMAIN], ALL_SCOPES - {scope})
        tokens[f"other without {scope}"] = await make_token(
            api.dsn, f"other-without-{scope.name.lower()}", [OTHER], ALL_SCOPES - {scope}
        )
    connection = await asyncpg.connect(api.dsn)
    await connection.execute(
        "UPDATE voicemail.api_token_secret SET expires_at = $1 WHERE token = 'expired'", datetime.now(UTC) - timedelta(seconds=1)
    )
    await put_mailbox(connection, "7001", id=(other := uuid4()))
    assert isinstance(api.switch, StandInSwitch)
    await leave_in(api.switch, "7001", OTHER, uuid=left.uuid)
    await connection.close()
    (far,) = (await api.get(f"/v1/voicemail/message?domain={OTHER}"))["data"]
    await api.until(f"/v1/voicemail/message/{far['id']}/notification", state="sent")
    async with api.client.post(f"/v1/voicemail/message/{lone_left.uuid}/link", json={}) as answer:
        link = await answer.json()
    names = {
        "{link}": link["id"], "{secret}": link["url"].rpartition("/")[2],
        "{extension}": "7001", "{id}": str(mailbox["id"]), "{message}": left.uuid,
        "{lone}": "7002", "{lone id}": str(lone["id"]), "{lone message}": lone_left.uuid, "{token}": "seen",
    }  # fmt: skip
    return Things(names, tokens, frozenset({str(other), far["id"]}))


def path_of(name: str, thing: str, things: Things) -> str:
    """The path of a route with a thing in its variable part."""
    path = name.split(" ")[1]
    for variable in ("{key}", "{name}"):
        path = path.replace(variable, things.names.get(thing, thing))
    for variable in ("{link}", "{secret}"):
        path = path.replace(variable, things.names[variable])
    return path.replace("{slot}", "1")


async def call(
    api: Site, name: str, things: Things, token: str | None, *, thing: str = "", new: str | None = None, query: str = ""
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    """Status, body and headers of a call."""
    route = ROUTES[name]
    body = None
    if route.body is not None:
        fresh = new or f"n{uuid4().hex}"
        body = {key: value.replace("{new}", fresh) if isinstance(value, str) else value for key, value in route.body.items()}
        if "ids" in body:
            body["ids"] = [things.names.get(name, name) for name in body["ids"]]
    headers = {} if token is None else {"Authorization": f"Bearer {things.tokens[token]}"}
    async with (
        aiohttp.ClientSession(api.client._base_url) as session,
        session.request(
            name.split(" ", maxsplit=1)[0], path_of(name, thing, things) + query, json=body, headers=headers
        ) as answer,
    ):
        content = await answer.json() if "json" in answer.content_type else {}
        return answer.status, content, dict(answer.headers)


def absent_things(name: str) -> tuple[str, ...]:
    """Names of nothing, as a route would take them: an id and a word."""
    return (str(uuid4()), f"z{uuid4().hex[:20]}")


async def test_every_route_is_known_here_and_says_its_scope(api: Site) -> None:
    document = await api.get("/openapi.json")
    said = {
        f"{method.upper()} {path}": operation.get("security")
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }

    def security(route: Route) -> list[dict[str, list[Scope]]]:
        if route.scope:
            return [{"token": [route.scope]}]
        return [{}, {"token": [route.optional]}] if route.optional else []

    assert said == {name: security(route) for name, route in ROUTES.items()}


@pytest.mark.parametrize("name", [name for name in ROUTES if name not in GUARDED])
async def test_a_public_route_asks_for_no_token(api: Site, things: Things, name: str) -> None:
    status, _, _ = await call(api, name, things, None)

    assert status == 200


@pytest.mark.parametrize("name", GUARDED)
async def test_without_a_token_or_with_an_expired_one_there_is_the_same_refusal_for_everything(
    api: Site, things: Things, name: str
) -> None:
    for token, challenge, detail in ((None, "Bearer", "send"), ("expired", 'Bearer error="invalid_token"', "expired")):
        answers = [await call(api, name, things, token, thing=thing) for thing in (*ROUTES[name].there, *absent_things(name))]
        for status, body, headers in answers:
            assert status == 401
            assert headers["WWW-Authenticate"] == challenge
            assert detail in body["detail"]
            assert body == answers[0][1]


@pytest.mark.parametrize("name", GUARDED)
async def test_a_missing_scope_is_named_and_only_for_what_is_there(api: Site, things: Things, name: str) -> None:
    route = ROUTES[name]
    token = f"without {route.scope}"
    for thing in route.there or ("",):
        status, body, headers = await call(api, name, things, token, thing=thing)
        assert status == 403
        assert body["detail"] == f"this token lacks the scope {route.scope}"
        assert headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{route.scope}"'
    if route.there:
        for thing in absent_things(name):
            status, _, _ = await call(api, name, things, token, thing=thing)
            assert status == (403 if route.hidden else 404)


@pytest.mark.parametrize("name", GUARDED)
async def test_what_is_of_another_domain_is_as_if_it_were_not_there(api: Site, things: Things, name: str) -> None:
    route = ROUTES[name]
    for token in ("other", f"other without {route.scope}"):
        lacking = token != "other"
        if lacking and route.hidden:
            continue  # refused for everything alike, which the test of missing scopes shows
        for thing in route.there:
            if thing == IN_BOTH:
                continue
            status, body, headers = await call(api, name, things, token, thing=thing)
            for absent in absent_things(name):
                for asking in (token, "own"):
                    nothing = await call(api, name, things, asking, thing=absent)
                    assert (status, body) == (404, nothing[1])
                    assert status == nothing[0]
                    assert headers.keys() == nothing[2].keys()
        if not route.there:
            status, body, _ = await call(api, name, things, token)
            if lacking:
                assert status == 403  # the list itself exists for every token, whatever domain a new thing is to be in
            elif route.foreign == "list":
                assert (status, body["total"]) == (200, len(body["data"]))
                assert {thing["id"] for thing in body["data"]} <= things.others
            elif route.foreign == "absent":
                assert status == 404


@pytest.mark.parametrize("name", OWN_EVERYWHERE)
async def test_an_extension_that_two_domains_have_is_each_token_s_own(api: Site, things: Things, name: str) -> None:
    found = {token: await call(api, name, things, token, thing=IN_BOTH) for token in ("own", "other")}

    assert {token: status for token, (status, _, _) in found.items()} == {"own": 200, "other": 200}
    if not name.endswith(("download", "waveform", "link")):
        domains = {token: body["domain"] for token, (_, body, _) in found.items()}
        assert domains == {"own": DOMAIN, "other": OTHER}
        ids = {token: body.get("message_id", body["id"]) for token, (_, body, _) in found.items()}
        assert ids["own"] == things.names["{message}"]
        assert ids["other"] in things.others


@pytest.mark.parametrize("name", [name for name in GUARDED if ROUTES[name].there and "/v1/voicemail/message" in name])
async def test_a_foreign_domain_that_is_named_is_as_one_that_is_not_there(api: Site, things: Things, name: str) -> None:
    answers = [
        await call(api, name, things, token, thing=thing, query=f"?domain={domain}")
        for token in ("other", f"other without {ROUTES[name].scope}")
        for domain in (DOMAIN, "nowhere.example")
        for thing in (*ROUTES[name].there, *absent_things(name))
    ]

    assert {status for status, _, _ in answers} == {404}
    assert all(body == answers[0][1] for _, body, _ in answers)


async def test_nothing_was_changed_by_all_of_that(api: Site, things: Things) -> None:
    assert (await api.get("/v1/voicemail/7001"))["password"] == "4321"
    assert (await api.get(f"/v1/voicemail/message/{things.names['{message}']}"))["extension"] == "7001"
    assert (await api.get(f"/v1/domain/{DOMAIN}"))["default"] is True
    assert (await api.get("/v1/token/seen"))["old_valid_until"] is None


async def test_a_path_that_no_route_has_is_told_to_nobody_without_a_token(api: Site) -> None:
    async with aiohttp.ClientSession(api.client._base_url) as nobody:
        for path in ("/v1", "/v1/", "/v2/voicemail", "/v1/voicemail/1/2/3/4", "/nothing"):
            async with nobody.get(path) as answer:
                assert answer.status == 401
            async with api.client.get(path) as answer:
                assert answer.status == 404


async def test_a_head_request_needs_the_scope_of_its_get(api: Site, things: Things) -> None:
    for token, expected in (("own", 200), ("without mailbox:read", 403)):
        headers = {"Authorization": f"Bearer {things.tokens[token]}"}
        async with api.client.head("/v1/voicemail", headers=headers) as answer:
            assert answer.status == expected


async def test_a_pin_is_shown_to_tokens_that_may_read_pins_only(api: Site, things: Things) -> None:
    for token, expected in (("own", "4321"), ("without pin:read", "")):
        headers = {"Authorization": f"Bearer {things.tokens[token]}"}
        async with api.client.get("/v1/voicemail/7001", headers=headers) as answer:
            assert (await answer.json())["password"] == expected
        async with api.client.get("/v1/voicemail?limit=1000", headers=headers) as answer:
            assert {mailbox["password"] for mailbox in (await answer.json())["data"] if mailbox["extension"] == "7001"} == {
                expected
            }
