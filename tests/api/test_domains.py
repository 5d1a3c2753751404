"""Domains over HTTP."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from app.access.scopes import ALL_SCOPES
from tests.support.access_tokens import make_token
from tests.support.pbx import DOMAIN, Site

EMPTY = {"description": "", "time_zone": None, "language": None, "mail_from": None, "mail_from_name": None, "reply_to": None,
         "mail_domains": []}  # fmt: skip
PINS = {"pin_policy": "warn", "pin_min_length": 6, "trash_days": None}
FULL = {
    "description": "A branch\nin Hà Nội 🎉", "time_zone": "Asia/Ho_Chi_Minh", "language": "vi", "mail_from": "voicemail@a.example",
    "mail_from_name": "Hộp thư thoại", "reply_to": "ops@a.example", "pin_policy": "refuse", "pin_min_length": 8,
    "mail_domains": ["a.example", "mail.a.example"], "trash_days": 7,
}  # fmt: skip


@pytest.fixture
def name() -> str:
    return f"d{uuid4().hex[:12]}.example"


async def ask(site: Site, method: str, path: str, token: str | None = None, **request: Any) -> tuple[int, dict[str, Any]]:
    """Status and body of a call."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with site.client.request(method, path, headers=headers, **request) as answer:
        return answer.status, await answer.json()


async def test_the_domain_of_the_settings_is_there_from_the_start(api: Site) -> None:
    assert await api.get(f"/v1/domain/{DOMAIN}") == {"name": DOMAIN, **EMPTY, **PINS, "default": True}


async def test_a_domain_is_made_read_changed_and_deleted(api: Site, name: str) -> None:
    async with api.client.post("/v1/domain", json={"name": name, **FULL}) as answer:
        assert answer.status == 201
        assert answer.headers["Location"] == f"/v1/domain/{name}"
        made = await answer.json()
    shown = {"name": name, **FULL, "default": False}
    assert made == {"data": shown, "message": "successfully"}
    assert await api.get(f"/v1/domain/{name}") == shown
    assert shown in (await api.get("/v1/domain?limit=1000"))["data"]

    done = (200, {"message": "successfully"})
    assert await ask(api, "PATCH", f"/v1/domain/{name}", json={"language": "EN", "time_zone": None}) == done
    assert await api.get(f"/v1/domain/{name}") == shown | {"language": "en", "time_zone": None}
    assert await ask(api, "PUT", f"/v1/domain/{name}", json={"reply_to": "x@b.example"}) == done
    assert await api.get(f"/v1/domain/{name}") == {"name": name, **EMPTY, **PINS, "reply_to": "x@b.example", "default": False}
    assert await ask(api, "PUT", f"/v1/domain/{name}", json=shown) == done
    assert await api.get(f"/v1/domain/{name}") == shown
    assert await ask(api, "PATCH", f"/v1/domain/{name}", json={}) == done
    assert await api.get(f"/v1/domain/{name}") == shown

    assert await ask(api, "DELETE", f"/v1/domain/{name}") == done
    for method in ("GET", "DELETE", "PUT", "PATCH"):
        status, _ = await ask(api, method, f"/v1/domain/{name}", json=None if method in {"GET", "DELETE"} else {})
        assert status == 404


async def test_an_empty_text_is_the_service_s_own_setting(api: Site, name: str) -> None:
    empty = dict.fromkeys(EMPTY, "") | {"mail_domains": None}
    assert (await ask(api, "POST", "/v1/domain", json={"name": name, **empty}))[0] == 201

    assert await api.get(f"/v1/domain/{name}") == {"name": name, **EMPTY, **PINS, "default": False}


@pytest.mark.parametrize("change", [str.upper, str.title, str])
async def test_a_name_that_is_taken_in_whatever_capitals_is_a_conflict(api: Site, name: str, change: Any) -> None:
    await ask(api, "POST", "/v1/domain", json={"name": name})

    status, problem = await ask(api, "POST", "/v1/domain", json={"name": change(name)})

    assert (status, name in problem["detail"]) == (409, True)


async def test_the_domain_of_the_settings_is_not_deleted(api: Site) -> None:
    status, problem = await ask(api, "DELETE", f"/v1/domain/{DOMAIN}")

    assert (status, "VOICEMAIL_DOMAIN" in problem["detail"]) == (409, True)


async def test_a_domain_with_mailboxes_removals_or_tokens_is_not_deleted(api: Site, name: str) -> None:
    await ask(api, "POST", "/v1/domain", json={"name": name})
    connection = await asyncpg.connect(api.dsn)
    for table, columns, values, reason in (
        ("mailbox", "domain, extension, pin_encrypted, enabled", "$1, '101', '', true", "mailboxes"),
        ("directory_entry", "domain, extension", "$1, '101'", "not given up"),
    ):
        await connection.execute(f"INSERT INTO voicemail.{table} ({columns}) VALUES ({values})", name)
        status, problem = await ask(api, "DELETE", f"/v1/domain/{name}")
        await connection.execute(f"DELETE FROM voicemail.{table} WHERE domain = $1", name)
        assert (status, reason in problem["detail"]) == (409, True)
    await make_token(api.dsn, f"token-{name}", [name])
    status, problem = await ask(api, "DELETE", f"/v1/domain/{name}")
    assert (status, "tokens" in problem["detail"]) == (409, True)
    await connection.close()


async def test_no_mailbox_is_left_in_a_domain_that_is_deleted_at_the_same_time(api: Site, name: str) -> None:
    await ask(api, "POST", "/v1/domain", json={"name": name})
    connection = await asyncpg.connect(api.dsn)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "INSERT INTO voicemail.mailbox (domain, extension, pin_encrypted, enabled) VALUES ($1, '101', '', true)", name
    )

    deleting = asyncio.ensure_future(ask(api, "DELETE", f"/v1/domain/{name}"))
    await asyncio.sleep(0.3)
    assert not deleting.done()
    await transaction.commit()

    assert (await deleting)[0] == 409
    await connection.execute("DELETE FROM voicemail.mailbox WHERE domain = $1", name)
    await connection.close()


HOSTILE = [
    "a\nb",
    "a\r\nBcc: x@y.example",
    "a\u0000b",
    "%0A",
    "<x/>",
    "'; DROP TABLE x; --",
    "x" * 300,
    "a\u2028b",
    "a\u202eb",
    "\ud83c",
]


@pytest.mark.parametrize(
    ("field", "value"),
    [*(("name", text) for text in [*HOSTILE, "", " ", "*", "..", "../x", "a/b", "a b", "-a", "a-", ".a", "🎉.example", "x" * 254]),
     ("name", None), ("name", 5),
     *(("time_zone", text) for text in [*HOSTILE, "Mars/Base", "asia/ho_chi_minh", "../UTC", "localtime ", "+07:00"]),
     *(("language", text) for text in [*HOSTILE, "english", "e", "en_US", "en-", "zh-Hant-TW-x", "vi "]),
     *((field, text) for field in ("mail_from", "reply_to") for text in
       [*HOSTILE, "x", "a@", "@b", "a@b c", "a@b,c@d", "A <a@b.example>", "a@b..c", "a@-b", "ä@b.example", "a@bé.example", "a@" + "b." * 130 + "c"]),
     *(("mail_from_name", text) for text in [*(text for text in HOSTILE if text not in {"%0A", "<x/>", "'; DROP TABLE x; --"}), " x", "x ", "\t"]),
     ("trash_days", 0), ("trash_days", 3651), ("trash_days", "5"), ("trash_days", True), ("description", "x" * 1001), ("description", "a\u0000b"), ("description", "\u001b[2J"), ("description", 5),
     ("mailfrom", "a@b.example"), ("id", "7d3b5e0c-9a44-4c58-8f1e-d0c5b8f1e7a2")],
)  # fmt: skip
async def test_a_wrong_field_is_named_and_nothing_is_made_or_changed(api: Site, name: str, field: str, value: object) -> None:
    if value == "\ud83c":
        raw = f'{{"name": "{name}", "{field}": "\\ud83c"}}'.encode()
        async with api.client.post("/v1/domain", data=raw, headers={"Content-Type": "application/json"}) as answer:
            assert answer.status == 400
        return
    status, problem = await ask(api, "POST", "/v1/domain", json={"name": name, field: value})
    assert status == 422
    assert [error["field"] for error in problem["errors"]] == [field]
    if isinstance(value, str) and len(value) > 3:
        assert value not in str(problem)
    assert (await ask(api, "GET", f"/v1/domain/{name}"))[0] == 404
    if field == "name":
        return

    await ask(api, "POST", "/v1/domain", json={"name": name, **FULL})
    for method in ("PUT", "PATCH"):
        status, problem = await ask(api, method, f"/v1/domain/{name}", json={field: value})
        assert (status, [error["field"] for error in problem["errors"]]) == (422, [field])
    assert await api.get(f"/v1/domain/{name}") == {"name": name, **FULL, "default": False}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_the_name_of_another_domain_in_a_change_is_refused(api: Site, name: str, method: str) -> None:
    await ask(api, "POST", "/v1/domain", json={"name": name})

    status, problem = await ask(api, method, f"/v1/domain/{name}", json={"name": DOMAIN})

    assert (status, problem["errors"][0]["field"]) == (422, "name")
    assert (await ask(api, method, f"/v1/domain/{name}", json={"name": None, "default": True}))[0] == 200


@pytest.mark.parametrize("path", ["%00", "%0A", "..%2f..", "%F0%9F%8E%89", "a%20b", "x" * 300, "%27%3B--", "*"])
async def test_a_hostile_name_in_a_path_is_just_not_there(api: Site, path: str) -> None:
    status, _ = await ask(api, "GET", f"/v1/domain/{path}")

    assert status == 404


async def test_an_administrator_of_some_domains_has_those_only(api: Site, name: str) -> None:
    admin = await make_token(api.dsn, f"admin-{name}", [name], ALL_SCOPES)

    _, page = await ask(api, "GET", "/v1/domain", admin)
    assert ([domain["name"] for domain in page["data"]], page["total"]) == ([name], 1)
    assert (await ask(api, "PATCH", f"/v1/domain/{name}", admin, json={"language": "vi"}))[0] == 200
    absent = await ask(api, "GET", "/v1/domain/nowhere.example", admin)
    for method in ("GET", "DELETE", "PUT", "PATCH"):
        body = None if method in {"GET", "DELETE"} else {}
        assert await ask(api, method, f"/v1/domain/{DOMAIN}", admin, json=body) == absent
    foreign = await ask(api, "POST", "/v1/domain", admin, json={"name": DOMAIN})
    assert foreign == await ask(api, "POST", "/v1/domain", admin, json={"name": f"new-{name}"})
    assert foreign[0] == 403
