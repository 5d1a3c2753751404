"""Whom a mailbox's mails may go to, what a changed mail_to tells, and the limit of mails an hour, over HTTP and a real SMTP server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.notifications.notices import dropped
from tests.support.pbx import DOMAIN, Site, stand_in

HOST = "good.example"


@pytest.fixture
async def told(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A site on which three mails an hour are allowed, and dropped addresses are told at once."""
    monkeypatch.setattr(dropped.DroppedAddresses.__init__, "__kwdefaults__", {"settling": 0.0})
    site = Site(database, tmp_path, stand_in(database, tmp_path))
    try:
        await site.open(mails_per_hour=3)
        yield site
    finally:
        await site.close()


@pytest.fixture
async def restricted(api: Site) -> AsyncIterator[Site]:
    """The domain allows mail to good.example and mail.good.example."""
    await change_domain(api, [HOST.upper(), f"mail.{HOST}"])
    yield api
    await change_domain(api, None)


async def change_domain(site: Site, names: Any) -> None:
    async with site.client.patch(f"/v1/domain/{DOMAIN}", json={"mail_domains": names}) as answer:
        assert answer.status == 200, await answer.text()


async def ask(site: Site, method: str, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    async with site.client.request(method, path, json=body or None) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize(
    "mail_to",
    ["a@other.example", f"a@{HOST},b@other.example", f"a@sub.{HOST}", f"a@x{HOST}", f"a@{HOST}.evil.example", "a@example"],
)
async def test_another_address_than_the_domain_allows_is_named(restricted: Site, extension: str, mail_to: str) -> None:
    path, usual = f"/v1/voicemail/{extension}", {"password": "4321", "enabled": True}
    status, problem = await ask(restricted, "POST", "/v1/voicemail", extension=extension, mail_to=mail_to, **usual)
    assert (status, [error["field"] for error in problem["errors"]]) == (422, ["mail_to"])
    assert HOST in problem["errors"][0]["message"]
    assert (await ask(restricted, "GET", path))[0] == 404
    await restricted.create(extension, mail_to=f"a@{HOST}")
    for method, body in (("PUT", usual | {"mail_to": mail_to}), ("PATCH", {"mail_to": mail_to})):
        status, problem = await ask(restricted, method, path, **body)
        assert (status, [error["field"] for error in problem["errors"]]) == (422, ["mail_to"])
    assert (await restricted.get(path))["mail_to"] == f"a@{HOST}"


async def test_allowed_addresses_and_none_are_taken(restricted: Site, extension: str) -> None:
    await restricted.create(extension, mail_to=f"A@{HOST}")

    for mail_to in (f"a@GOOD.Example,b@mail.{HOST}", ""):
        assert (await ask(restricted, "PATCH", f"/v1/voicemail/{extension}", mail_to=mail_to))[0] == 200
        assert (await restricted.get(f"/v1/voicemail/{extension}"))["mail_to"] == mail_to


async def test_a_mailbox_from_before_can_be_changed_without_its_addresses(api: Site, extension: str) -> None:
    mailbox = await api.create(extension, mail_to="a@other.example")
    await change_domain(api, [HOST])
    try:
        assert (await ask(api, "PATCH", f"/v1/voicemail/{extension}", enabled=False))[0] == 200
        assert (await ask(api, "PUT", f"/v1/voicemail/{extension}", password="9", enabled=True))[0] == 200
        assert (await ask(api, "PATCH", f"/v1/voicemail/{extension}", mail_to=mailbox["mail_to"]))[0] == 422
        assert (await api.get(f"/v1/voicemail/{extension}"))["mail_to"] == "a@other.example"
    finally:
        await change_domain(api, [])


@pytest.mark.parametrize(
    "names", [["a b"], ["*.example.com"], ["@a.example"], ["a@b.example"], [""], ["a.example\r\nx"], ["a\u0000b"], ["bücher.example"], ["..", "a.b"],
              ["x" * 64 + ".example"], ["a.example"] * 51, [5], [None], "a.example", 5, {"a": 1}, [["a.example"]], ["'; DROP TABLE x; --"], ["🎉.example"]],
    ids=range(19),
)  # fmt: skip
async def test_what_is_no_list_of_hosts_is_refused(api: Site, names: Any) -> None:
    status, problem = await ask(api, "PATCH", f"/v1/domain/{DOMAIN}", mail_domains=names)

    assert status == 422
    assert {error["field"].partition(".")[0].partition("[")[0] for error in problem["errors"]} == {"mail_domains"}
    assert (await api.get(f"/v1/domain/{DOMAIN}"))["mail_domains"] == []


async def notices(site: Site, count: int) -> list[Any]:
    """The mails about dropped addresses, when so many have come."""
    async with asyncio.timeout(15):
        while True:
            found = [sent for sent in site.mail.messages if "no longer goes" in str(sent.parsed["Subject"])]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_a_changed_mail_to_is_told_to_whom_it_drops_once(told: Site) -> None:
    await told.create("101", mail_to="old@example.com,stays@example.com")
    for method, body in (
        ("PATCH", {"mail_to": "stays@EXAMPLE.com,new@example.com"}),
        ("PATCH", {"mail_to": "stays@example.com,new@example.com"}),
        ("PUT", {"password": "9876", "enabled": True}),
    ):
        assert (await ask(told, method, "/v1/voicemail/101", **body))[0] == 200
    assert (await ask(told, "PATCH", "/v1/voicemail/101", mail_to="not an address"))[0] == 422
    assert (await ask(told, "DELETE", "/v1/voicemail/101"))[0] == 200

    found = await notices(told, 3)
    await asyncio.sleep(0.5)

    assert sorted(sent.recipients for sent in told.mail.messages) == [
        ("new@example.com",), ("old@example.com",), ("stays@example.com",),
    ]  # fmt: skip
    for sent in found:
        assert "9876" not in sent.content.decode()
        assert "4321" not in sent.content.decode()


async def test_the_fourth_mail_of_an_hour_waits_for_a_digest_and_the_api_says_so(told: Site) -> None:
    await told.create("101", local_after_email=False)
    left = [await told.switch.leave_message("101", caller_name=f"C{number}") for number in range(4)]
    for message in left[:3]:
        await told.until(f"/v1/voicemail/message/{message.uuid}/notification", state="sent")
    shown = await told.until(f"/v1/voicemail/message/{left[3].uuid}/notification", state="digested")
    assert (shown["recipients"], shown["next_try_at"]) == ([], None)
    assert shown["recording"] == {"state": "kept", "detail": "no mail carried the recording"}
    assert "digest" in shown["detail"]

    connection = await asyncpg.connect(told.dsn)
    await connection.execute("UPDATE voicemail.digest SET due_at = now()")
    await connection.execute("UPDATE voicemail.pgqueuer SET execute_after = now() WHERE entrypoint = 'digest'")
    await connection.close()
    async with asyncio.timeout(40):
        while not (shown := await told.get(f"/v1/voicemail/message/{left[3].uuid}/notification"))["recipients"] or (
            shown["recipients"][0]["state"] != "accepted"
        ):
            await asyncio.sleep(0.1)

    assert [one["address"] for one in shown["recipients"]] == ["tech@example.com"]
    (digest,) = [sent.parsed for sent in told.mail.messages if "more voicemail" in str(sent.parsed["Subject"])]
    assert digest["Message-ID"] == shown["mail_message_id"]
    assert "C3" in digest.get_content()
    assert (await told.get(f"/v1/voicemail/message/{left[3].uuid}"))["extension"] == "101"
