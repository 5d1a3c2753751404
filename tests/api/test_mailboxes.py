"""Mailboxes over HTTP: what clients call already, and what a wrong call is told."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from yarl import URL

from tests.support.pbx import DOMAIN, TOKEN, Site

DONE = {"message": "successfully", "directory": {"state": "applied", "detail": ""}}
FIXED = ["id", "extension", "password", "mail_to", "local_after_email", "enabled", "description"]
BODY = {"password": "4321", "enabled": True}


async def problem(site: Site, method: str, path: str, status: int, **request: Any) -> dict[str, Any]:
    """The problem document of a request that must fail so."""
    async with site.client.request(method, path, **request) as answer:
        assert answer.status == status, await answer.text()
        assert answer.content_type == "application/problem+json"
        found: dict[str, Any] = await answer.json()
    assert found["status"] == status
    assert found["type"]
    assert found["title"]
    assert found["detail"]
    return found


def fields(problem: dict[str, Any]) -> set[str]:
    """The fields a problem names."""
    return {error["field"] for error in problem["errors"]}


async def test_a_mailbox_is_created_read_changed_and_deleted(api: Site, extension: str) -> None:
    body = {
        "extension": extension, "password": "abc123def", "enabled": True, "local_after_email": False,
        "mail_to": "tech@example.com", "description": "For Tech",
    }  # fmt: skip
    async with api.client.post("/v1/voicemail", json=body) as answer:
        assert answer.status == 201
        created = await answer.json()
        location = answer.headers["Location"]
    assert created["message"] == "successfully"
    mailbox = created["data"]
    assert list(mailbox)[:7] == FIXED
    assert {name: mailbox[name] for name in body} == body
    assert UUID(mailbox["id"])
    assert await api.get(location) == mailbox
    assert await api.get(f"/v1/voicemail/{extension}") == mailbox

    async with api.client.put(f"/v1/voicemail/{extension}", json={"password": "9", "enabled": False}) as answer:
        done = await answer.json()
        assert {warning["field"] for warning in done.pop("warnings")} == {"password"}
        assert (answer.status, done) == (200, DONE)
    changed = await api.get(location)
    assert (changed["password"], changed["enabled"]) == ("9", False)
    assert {name: changed[name] for name in ("mail_to", "description", "local_after_email")} == {
        "mail_to": "tech@example.com",
        "description": "For Tech",
        "local_after_email": False,
    }

    async with api.client.delete(location) as answer:
        assert (answer.status, await answer.json()) == (200, DONE)
    await problem(api, "GET", location, 404)
    await problem(api, "GET", f"/v1/voicemail/{extension}", 404)


async def test_the_optional_fields_have_their_defaults(api: Site, extension: str) -> None:
    async with api.client.post("/v1/voicemail", json={"extension": extension, **BODY}) as answer:
        mailbox = (await answer.json())["data"]

    assert (mailbox["mail_to"], mailbox["local_after_email"], mailbox["description"]) == ("", True, "")


async def test_what_was_read_may_be_sent_back(api: Site, extension: str) -> None:
    mailbox = await api.create(extension)

    async with api.client.put(f"/v1/voicemail/{extension}", json=mailbox) as answer:
        assert answer.status == 200

    assert await api.get(f"/v1/voicemail/{extension}") == mailbox


async def test_id_and_extension_of_another_mailbox_are_refused(api: Site, extension: str) -> None:
    mailbox = await api.create(extension)

    found = await problem(
        api, "PUT", f"/v1/voicemail/{extension}", 422, json=BODY | {"id": str(uuid4()), "extension": "1", "password": "0000"}
    )

    assert fields(found) == {"id", "extension"}
    assert await api.get(f"/v1/voicemail/{extension}") == mailbox


async def test_an_extension_that_exists_is_a_conflict(api: Site, extension: str) -> None:
    mailbox = await api.create(extension)

    await problem(api, "POST", "/v1/voicemail", 409, json={"extension": extension, **BODY, "password": "other"})

    assert await api.get(f"/v1/voicemail/{extension}") == mailbox


async def test_of_many_that_create_one_extension_at_once_one_succeeds(api: Site, extension: str) -> None:
    async def create() -> int:
        async with api.client.post("/v1/voicemail", json={"extension": extension, **BODY}) as answer:
            return answer.status

    statuses = await asyncio.gather(*(create() for _ in range(8)))

    assert sorted(statuses) == [201] + [409] * 7


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "key", ["999999", "7d3b5e0c-9a44-4c58-8f1e-d0c5b8f1e7a2", "no such", "%00", "..%2F..", "x" * 300, "%F0%9F%8E%89", "%0A"]
)
async def test_an_unknown_mailbox_is_not_found(api: Site, method: str, key: str) -> None:
    await problem(api, method, f"/v1/voicemail/{key}", 404, **({"json": BODY} if method == "PUT" else {}))


async def test_lists_are_pages_by_extension(api: Site, extensions: Iterator[str]) -> None:
    made = [next(extensions) for _ in range(3)]
    for extension in made:
        await api.create(extension)

    first = await api.get("/v1/voicemail")
    everything = await api.get("/v1/voicemail?limit=1000")
    part = await api.get("/v1/voicemail?limit=2&offset=1")
    beyond = await api.get("/v1/voicemail?offset=100000")

    assert list(first) == ["data", "limit", "offset", "total"]
    assert (first["limit"], first["offset"]) == (10, 0)
    assert first["data"] == everything["data"][:10]
    assert everything["total"] == len(everything["data"]) == beyond["total"]
    assert {mailbox["extension"] for mailbox in everything["data"]} >= set(made)
    assert part["data"] == everything["data"][1:3]
    assert (part["limit"], part["offset"]) == (2, 1)
    assert beyond["data"] == []


@pytest.mark.parametrize("path", ["/v1/voicemail", "/v1/voicemail/message"])
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=-1", "limit"), ("limit=ten", "limit"),
        ("limit=1e2", "limit"), ("limit=%2B5", "limit"), ("limit=5.0", "limit"), ("limit=٣", "limit"), ("limit=5&limit=6", "limit"),
        ("limit=99999999999999999999", "limit"), ("offset=-1", "offset"), ("offset=99999999999", "offset"), ("offset=%00", "offset"),
    ],
)  # fmt: skip
async def test_a_wrong_page_is_named(api: Site, path: str, query: str, field: str) -> None:
    found = await problem(api, "GET", f"{path}?{query}", 422)

    assert fields(found) == {field}


@pytest.mark.parametrize("query", ["limit=1", "limit=1000", "offset=0", "limit=007"])
async def test_the_ends_of_a_page_s_range_are_in_it(api: Site, query: str) -> None:
    await api.get(f"/v1/voicemail?{query}")
    await api.get(f"/v1/voicemail/message?{query}")


WRONG = [
    ("extension", ""), ("extension", "a b"), ("extension", "x" * 65), ("extension", "message"), ("extension", "10\n1"),
    ("extension", "10/1"), ("extension", "１０１"), ("extension", "101\0"), ("extension", 101), ("extension", None),
    ("extension", "<user>"), ("extension", "${domain}"), ("extension", "%0A"), ("extension", "🎉"), ("extension", "1@evil.example"),
    ("extension", ".."), ("extension", "."), ("extension", "_-."), ("extension", "_all_"), ("extension", "12345678-1234-1234-1234-12345678ABCD"),
    ("password", ""), ("password", "x" * 65), ("password", "12\n34"), ("password", "12\0"), ("password", 1234), ("password", None),
    ("password", "\u202e12"), ("password", " 12"), ("password", ["1"]),
    ("enabled", "true"), ("enabled", 1), ("enabled", 0), ("enabled", None), ("enabled", "yes"),
    ("local_after_email", "false"), ("local_after_email", 0),
    ("mail_to", "tech"), ("mail_to", "a@b.example,,c@d.example"), ("mail_to", "a b@c.example"),
    ("mail_to", "a@b.example\r\nBcc: x@y.example"), ("mail_to", "a@b.example\0"), ("mail_to", "<a@b.example>"),
    ("mail_to", "a@b..example"), ("mail_to", ".a@b.example"), ("mail_to", "a@-b.example"), ("mail_to", "x" * 65 + "@b.example"),
    ("mail_to", "a@" + "b" * 300), ("mail_to", "ä@b.example"), ("mail_to", "a@b.example; c@d.example"), ("mail_to", ["a@b.example"]),
    ("mail_to", "|/bin/sh@b.example"), ("mail_to", "a@[127.0.0.1]"), ("mail_to", ",".join(f"a{n}@b.example" for n in range(21))),
    ("description", "x" * 1001), ("description", "a\0b"), ("description", 5), ("description", "\x1b[31m"),
    ("time_zone", "Mars/Olympus"), ("time_zone", ""), ("time_zone", "../../etc/passwd"), ("time_zone", 7),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), WRONG, ids=[f"{field}-{number}" for number, (field, _) in enumerate(WRONG)])
async def test_a_wrong_field_is_named_and_nothing_is_written(api: Site, extension: str, field: str, value: object) -> None:
    body = {"extension": extension, **BODY, field: value}

    found = await problem(api, "POST", "/v1/voicemail", 422, json=body)

    assert fields(found) == {field}
    await problem(api, "GET", f"/v1/voicemail/{extension}", 404)


# In a change an empty password keeps the PIN.
WRONG_CHANGE = [(field, value) for field, value in WRONG if field != "extension" and (field, value) != ("password", "")]


@pytest.mark.parametrize(
    ("field", "value"), WRONG_CHANGE, ids=[f"{field}-{number}" for number, (field, _) in enumerate(WRONG_CHANGE)]
)
async def test_a_wrong_change_is_named_and_changes_nothing(api: Site, field: str, value: object) -> None:
    mailbox = (await api.get("/v1/voicemail?limit=1"))["data"]
    mailbox = mailbox[0] if mailbox else await api.create("9999")

    found = await problem(api, "PUT", f"/v1/voicemail/{mailbox['id']}", 422, json=BODY | {field: value})

    assert fields(found) == {field}
    assert await api.get(f"/v1/voicemail/{mailbox['id']}") == mailbox


async def test_every_wrong_field_is_named_at_once(api: Site) -> None:
    found = await problem(
        api, "POST", "/v1/voicemail", 422, json={"extension": "a b", "mail_to": "tech", "pasword": "x", "enabled": 1}
    )

    assert fields(found) == {"extension", "mail_to", "pasword", "enabled", "password"}
    words = {error["field"]: error["message"] for error in found["errors"]}
    assert words["pasword"] == "is not a field of this request"
    assert words["password"] == "is required"


async def test_a_wrong_password_is_not_repeated(api: Site, extension: str) -> None:
    secret = "s3cr3t\n" * 20

    found = await problem(api, "POST", "/v1/voicemail", 422, json={"extension": extension, "enabled": True, "password": secret})

    assert "s3cr3t" not in json.dumps(found)


async def test_several_addresses_are_checked_one_by_one(api: Site, extension: str) -> None:
    body = {"extension": extension, **BODY}
    found = await problem(api, "POST", "/v1/voicemail", 422, json=body | {"mail_to": "a@b.example, nobody, c@d.example"})
    assert found["errors"] == [
        {"field": "mail_to", "message": "address 2 ('nobody') is not a mail address such as name@example.com"}
    ]

    mailbox = await api.create(extension, mail_to=" a@b.example , c@d.example,a@B.example")
    assert mailbox["mail_to"] == "a@b.example,c@d.example"


KEPT = [
    ("password", "x" * 64), ("password", "&<>\"'"), ("password", "${local_ip_v4}"), ("password", "$${domain}"), ("password", "%0A"),
    ("password", "пароль"), ("password", "🎉1"), ("password", "a b"), ("password", "../../x"), ("password", "';--"), ("password", "-->"),
    ("password", "]]>"), ("password", "\\n"), ("password", "#*0"),
    ("description", "x" * 1000), ("description", "</user><user id='evil'>"), ("description", "a\nb\r\nc\td"), ("description", "🎉" * 250),
    ("description", "Robert'); DROP TABLE voicemail.mailbox; --"), ("description", "%0AVM-User: 102"), ("description", "${x} $${y}"),
    ("description", "../../../etc/passwd"), ("description", "\u202egnp.exe"),
    ("mail_to", "o'neil+voicemail%x@mail.example.com"),
    ("extension", "*97"), ("extension", "#1"), ("extension", "a.b-c_d"), ("extension", "z" * 64), ("extension", "..1"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), KEPT, ids=[f"{field}-{number}" for number, (field, _) in enumerate(KEPT)])
async def test_odd_values_come_back_as_they_were_and_reach_the_switch(api: Site, extension: str, field: str, value: str) -> None:
    body = {"extension": extension, **BODY, field: value}

    async with api.client.post("/v1/voicemail", json=body) as answer:
        assert answer.status == 201, await answer.text()
        mailbox = (await answer.json())["data"]

    assert mailbox[field] == value
    assert mailbox["directory"] == {"state": "applied", "detail": ""}
    assert await api.get(f"/v1/voicemail/{mailbox['id']}") == mailbox
    inside = {path.name for path in api.switch.directory.rglob("*")}
    assert all(name.startswith("voicemail-") and name.endswith(".xml") for name in inside)
    async with api.client.delete(f"/v1/voicemail/{mailbox['id']}") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b"[]", b'"text"', b"null", b"\xff\xfe", b'{"a": NaN}', b"{" * 20_000, b'{"password": "\\ud800"}'],
    ids=range(10),
)  # fmt: skip
async def test_a_body_that_is_no_json_object_is_a_bad_request(api: Site, body: bytes) -> None:
    await problem(api, "POST", "/v1/voicemail", 400, data=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "text/xml"]
)
async def test_a_body_of_another_type_is_refused(api: Site, kind: str) -> None:
    await problem(api, "POST", "/v1/voicemail", 415, data=b"{}", headers={"Content-Type": kind})


async def test_a_body_over_a_mebibyte_is_too_large(api: Site, extension: str) -> None:
    body = json.dumps({"extension": extension, **BODY, "description": "x" * 1024 * 1024}).encode()

    await problem(api, "POST", "/v1/voicemail", 413, data=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", "/v1/voicemail"), ("DELETE", "/v1/voicemail"), ("POST", "/v1/voicemail/message"), ("PUT", "/v1/voicemail"), ("POST", "/healthz")],
)  # fmt: skip
async def test_a_method_that_a_path_does_not_take(api: Site, method: str, path: str) -> None:
    await problem(api, method, path, 405)
    async with api.client.request(method, path) as answer:
        assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/nothing", "/v1/voicemail/1/2/3", "/v1/voicemail//", "/%F0%9F%8E%89"])
async def test_a_path_that_is_not_there(api: Site, path: str) -> None:
    await problem(api, "GET", path, 404)


async def test_the_switch_has_what_the_api_says(api: Site, extension: str) -> None:
    connection = await asyncpg.connect(api.dsn)
    await api.create(extension, password="1111")
    await connection.execute(
        "INSERT INTO voicemail_prefs (username, domain, password) VALUES ($1, $2, '1111')", extension, DOMAIN
    )

    async with api.client.put(f"/v1/voicemail/{extension}", json={"password": "2222", "enabled": True}) as answer:
        assert answer.status == 200

    assert (await api.get(f"/v1/voicemail/{extension}"))["directory"]["state"] == "applied"
    assert await connection.fetchval("SELECT password FROM voicemail_prefs WHERE username = $1", extension) == "2222"
    await connection.close()


async def test_a_switch_that_refuses_the_reload_is_told_as_failed_with_its_words(api: Site, extension: str) -> None:
    switch = api.switch
    switch.refuse_reload = "-ERR [mismatched tag at line 5]\n"  # type: ignore[attr-defined]
    try:
        mailbox = await api.create(extension)
        assert mailbox["directory"]["state"] in {"failed", "pending"}
        assert "mismatched tag" in mailbox["directory"]["detail"]
    finally:
        switch.refuse_reload = ""  # type: ignore[attr-defined]

    await api.until(f"/v1/voicemail/{extension}", directory={"state": "applied", "detail": ""})


async def test_what_was_read_moves_in_with_its_id(api: Site, extension: str) -> None:
    mailbox = await api.create(extension, description="moves")
    async with api.client.delete(f"/v1/voicemail/{extension}") as answer:
        assert answer.status == 200

    async with api.client.post("/v1/voicemail", json=mailbox) as answer:
        assert answer.status == 201
        assert answer.headers["Location"] == f"/v1/voicemail/{mailbox['id']}"
    assert await api.get(f"/v1/voicemail/{extension}") | {"directory": 0} == mailbox | {"directory": 0}

    other = {"extension": f"{extension}x", **BODY, "id": mailbox["id"]}
    found = await problem(api, "POST", "/v1/voicemail", 409, json=other)
    assert "id" in found["detail"]
    assert extension not in found["detail"]
    await problem(api, "GET", f"/v1/voicemail/{extension}x", 404)
    await problem(api, "POST", "/v1/voicemail", 422, json=other | {"id": "101"})


async def test_null_is_as_if_an_optional_key_were_left_out(api: Site, extension: str) -> None:
    nothing = dict.fromkeys(("local_after_email", "mail_to", "description", "time_zone", "id", "directory"))
    async with api.client.post("/v1/voicemail", json={"extension": extension, **BODY, **nothing}) as answer:
        assert answer.status == 201, await answer.text()
        made = (await answer.json())["data"]
    assert (made["local_after_email"], made["mail_to"], made["description"], made["time_zone"]) == (True, "", "", None)

    kept = {"local_after_email": False, "mail_to": "a@b.example", "description": "kept", "time_zone": "Europe/Paris"}
    async with api.client.put(f"/v1/voicemail/{extension}", json=BODY | kept) as answer:
        assert answer.status == 200
    async with api.client.put(f"/v1/voicemail/{extension}", json=BODY | nothing | {"extension": None}) as answer:
        assert answer.status == 200, await answer.text()
    found = await api.get(f"/v1/voicemail/{extension}")
    assert {name: found[name] for name in kept} == kept


async def test_an_empty_password_keeps_the_pin(api: Site, extension: str) -> None:
    await api.create(extension, password="7788")

    async with api.client.put(f"/v1/voicemail/{extension}", json={"password": "", "enabled": False}) as answer:
        assert answer.status == 200

    found = await api.get(f"/v1/voicemail/{extension}")
    assert (found["password"], found["enabled"]) == ("7788", False)


async def test_a_comma_at_the_end_is_forgiven(api: Site, extension: str) -> None:
    assert (await api.create(extension, mail_to="a@b.example, c@d.example, "))["mail_to"] == "a@b.example,c@d.example"


async def test_some_fields_are_changed_and_null_puts_one_back(api: Site, extension: str) -> None:
    made = await api.create(extension, password="7788", mail_to="a@b.example", time_zone="Europe/Paris", local_after_email=False)

    async def patch(status: int, **changed: object) -> dict[str, Any]:
        async with api.client.patch(f"/v1/voicemail/{extension}", json=changed) as answer:
            assert answer.status == status, await answer.text()
        return await api.get(f"/v1/voicemail/{extension}") | {"directory": made["directory"]}

    assert await patch(200, description="new") == made | {"description": "new"}
    assert await patch(200, enabled=False, password="9900") == made | {"description": "new", "enabled": False, "password": "9900"}
    found = await patch(
        200, time_zone=None, mail_to=None, description=None, local_after_email=None, enabled=True, password="7788"
    )
    assert found == made | {"time_zone": None, "mail_to": "", "description": "", "local_after_email": True}
    assert await patch(200) == found
    for wrong in (
        {"enabled": None},
        {"password": None},
        {"password": " 1"},
        {"extension": "1"},
        {"nothing": 1},
        {"mail_to": "x"},
    ):
        assert await patch(422, **wrong) == found


async def test_a_change_only_of_what_was_seen(api: Site, extension: str) -> None:
    await api.create(extension)
    path = f"/v1/voicemail/{extension}"

    async def seen() -> str:
        async with api.client.get(path) as answer:
            return answer.headers["ETag"]

    async def call(method: str, status: int, tag: str, **arguments: Any) -> None:
        async with api.client.request(method, path, headers={"If-Match": tag}, **arguments) as answer:
            assert answer.status == status, await answer.text()
            assert answer.content_type == ("application/problem+json" if status == 412 else "application/json")

    first = await seen()
    assert await seen() == first  # what the switch has of it does not count
    await call("PATCH", 200, first, json={"description": "one"})
    second = await seen()
    assert second != first
    for method, arguments in (("PUT", {"json": BODY}), ("PATCH", {"json": {"enabled": False}}), ("DELETE", {})):
        for stale in (first, f"W/{second}", second.strip('"'), '""', "nonsense", '"', f'{first}, "x"'):
            await call(method, 412, stale, **arguments)
    assert await seen() == second
    await call("PUT", 200, f'"x", {second}', json=BODY)
    await call("PATCH", 200, "*", json={"enabled": False})
    await call("DELETE", 200, await seen())
    await problem(api, "GET", path, 404)


async def test_of_two_that_saw_the_same_one_changes_it(api: Site, extension: str) -> None:
    await api.create(extension)
    path = f"/v1/voicemail/{extension}"
    async with api.client.get(path) as answer:
        tag = answer.headers["ETag"]

    async def patch(number: int) -> int:
        async with api.client.patch(path, json={"description": f"{number}"}, headers={"If-Match": tag}) as answer:
            return answer.status

    assert sorted(await asyncio.gather(*(patch(number) for number in range(5)))) == [200, 412, 412, 412, 412]


@pytest.mark.parametrize("path", ["/v1/voicemail", "/v1/voicemail/message", "/v1/voicemail/101", "/v1/voicemail/message/101"])
async def test_an_unknown_parameter_is_named(api: Site, path: str) -> None:
    assert fields(await problem(api, "GET", f"{path}?pages=1&offse=2", 422)) == {"pages", "offse"}
    async with api.client.get(f"{path}?_=1732500000000") as answer:
        assert answer.status in (200, 404)


async def test_an_empty_parameter_is_as_if_it_were_left_out(api: Site) -> None:
    assert (await api.get("/v1/voicemail?limit=&offset="))["limit"] == 10
    assert (await api.get("/v1/voicemail/message?limit=&offset=&extension="))["limit"] == 10
    assert fields(await problem(api, "GET", "/v1/voicemail?limit=1&limit=2", 422)) == {"limit"}


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/v1/voicemail/", "/v1/voicemail"), ("/v1/voicemail/?limit=2&offset=%2F", "/v1/voicemail?limit=2&offset=%2F"),
        ("/v1/voicemail/101/", "/v1/voicemail/101"), ("/v1/voicemail/message/x/download/", "/v1/voicemail/message/x/download"),
        ("/v1/voicemail/%2F%2Fevil.example/", "/v1/voicemail/%2F%2Fevil.example"), ("/healthz/", "/healthz"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_slash_at_the_end_leads_to_the_path_without_it(api: Site, method: str, path: str, location: str) -> None:
    async with api.client.request(method, URL(path, encoded=True), allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (308, location)


@pytest.mark.parametrize(
    "path", ["//evil.example/", "//evil.example/v1/voicemail/", "/%5Cevil.example/", "/v1//evil.example/", "/\\evil.example/"]
)
async def test_a_slash_at_the_end_leads_to_no_other_host(api: Site, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.client._base_url.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()

    assert int(answer.split()[1]) in (400, 404)
    assert b"location:" not in answer.lower()
