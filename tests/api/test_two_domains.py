"""The same extension in two domains, from the call to the mail, the removal and the phones: nothing of one is the other's."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import pytest

from app.sandbox.mail import CaughtMail
from app.sandbox.switch import StandInSwitch
from tests.support.access_tokens import make_token
from tests.support.pbx import DOMAIN, Site, stand_in
from tests.support.plain_client import PlainClient
from tests.support.two_domains import OTHER, SETTINGS, call, host, put_mailbox

LIST = "/v1/voicemail/message"
EVENTS = "event plain MESSAGE_WAITING"
EPOCH = 1_630_037_624


@dataclass(frozen=True)
class TwoDomains:
    """A service with the mailbox 101 in two domains; ``switch`` is its stand-in."""

    site: Site
    switch: StandInSwitch
    database: "asyncpg.Connection"
    tokens: dict[str, str]

    async def get(self, path: str, token: str = "both", status: int = 200) -> dict[str, Any]:
        """What a token is answered."""
        headers = {"Authorization": f"Bearer {self.tokens[token]}"}
        async with self.site.client.get(path, headers=headers) as answer:
            assert answer.status == status, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def files(self, path: str, token: str = "both") -> bytes:
        """A download."""
        headers = {"Authorization": f"Bearer {self.tokens[token]}"}
        async with self.site.client.get(path, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.read()

    async def mails(self, number: int) -> dict[str, CaughtMail]:
        """The mails so far by their first recipient, once there are so many."""
        async with asyncio.timeout(15):
            while len(self.site.mail.messages) < number:
                await asyncio.sleep(0.05)
        return {mail.recipients[0]: mail for mail in self.site.mail.messages}


@pytest.fixture
async def two(database: str, tmp_path: Path) -> AsyncIterator[TwoDomains]:
    switch = stand_in(database, tmp_path)
    site = Site(database, tmp_path, switch)
    connection = await asyncpg.connect(database)
    await host(connection, OTHER, **SETTINGS)
    tokens = {
        "both": await make_token(database, "both", [DOMAIN, OTHER]),
        "lab": await make_token(database, "lab", [DOMAIN]),
        "other": await make_token(database, "other", [OTHER]),
        "all": await make_token(database, "all"),
    }
    try:
        await site.open()
        await site.create("101", mail_to="near@example.com")
        await put_mailbox(connection, "101", local_after_email=False)
        yield TwoDomains(site, switch, connection, tokens)
    finally:
        await site.close()
        await connection.close()


async def test_each_list_has_the_messages_of_its_domain(two: TwoDomains) -> None:
    near = await call(two.switch, "101", DOMAIN, created_epoch=EPOCH)
    far = await call(two.switch, "101", OTHER, created_epoch=EPOCH + 1)

    for query in ("", "?extension=101"):
        joined = f"{query}&" if query else "?"
        lists = {
            "default": await two.get(f"{LIST}{query}"),
            "named": await two.get(f"{LIST}{joined}domain={OTHER}"),
            "all": await two.get(f"{LIST}{joined}domain=*"),
            "all of every domain": await two.get(f"{LIST}{joined}domain=*", "all"),
            "only": await two.get(f"{LIST}{joined}domain=*", "other"),
        }
        ids = {name: [message["id"] for message in found["data"]] for name, found in lists.items()}
        assert ids == {
            "default": [near.uuid],
            "named": [far.uuid],
            "all": [far.uuid, near.uuid],
            "all of every domain": [far.uuid, near.uuid],
            "only": [far.uuid],
        }
        assert {name: found["total"] for name, found in lists.items()} == {name: len(found) for name, found in ids.items()}
        shown = {message["domain"]: message["created_at"] for message in lists["all"]["data"]}
        assert shown == {DOMAIN: "2021-08-27T11:13:44+07:00", OTHER: "2021-08-27T01:43:45-02:30"}


async def test_an_extension_is_of_the_default_domain_or_of_the_named_one(two: TwoDomains) -> None:
    near, far = await call(two.switch, "101", DOMAIN), await call(two.switch, "101", OTHER)

    found = {
        "default": await two.get(f"{LIST}/101"),
        "named": await two.get(f"{LIST}/101?domain={OTHER}"),
        "other": await two.get(f"{LIST}/101", "other"),
    }

    assert {name: (one["id"], one["domain"]) for name, one in found.items()} == {
        "default": (near.uuid, DOMAIN), "named": (far.uuid, OTHER), "other": (far.uuid, OTHER),
    }  # fmt: skip


async def test_an_id_is_found_in_every_domain_of_the_token_and_in_no_other(two: TwoDomains) -> None:
    near, far = await call(two.switch, "101", DOMAIN), await call(two.switch, "101", OTHER)
    absent = await two.get(f"{LIST}/{uuid4()}", "lab", 404)

    assert (await two.get(f"{LIST}/{far.uuid}"))["created_at"].endswith(("-02:30", "-03:30"))
    assert (await two.get(f"{LIST}/{far.uuid}?domain={OTHER}"))["domain"] == OTHER
    for token, path in (
        ("lab", f"{LIST}/{far.uuid}"), ("other", f"{LIST}/{near.uuid}"), ("both", f"{LIST}/{far.uuid}?domain={DOMAIN}"),
        ("lab", f"{LIST}/101?domain={OTHER}"), ("lab", f"{LIST}/{far.uuid}?domain={OTHER}"),
        ("lab", f"{LIST}/{near.uuid}?domain=nowhere.example"), ("lab", f"{LIST}/{far.uuid}/download"),
    ):  # fmt: skip
        assert await two.get(path, token, 404) == absent


async def test_one_call_in_two_domains_has_two_ids_and_two_recordings(two: TwoDomains) -> None:
    uuid = str(uuid4())
    near = await call(two.switch, "101", DOMAIN, uuid=uuid, created_epoch=EPOCH)
    far = await call(two.switch, "101", OTHER, uuid=uuid, created_epoch=EPOCH + 1)
    near.path.write_bytes(b"near")
    far.path.write_bytes(b"far")

    later, first = (await two.get(f"{LIST}?domain=*"))["data"]

    assert (first["id"], first["domain"], later["domain"]) == (uuid, DOMAIN, OTHER)
    assert UUID(later["id"]).version == 5
    for message, content in ((first, b"near"), (later, b"far")):
        path = message["download_url"].partition("/v1/")[2]
        assert await two.files(f"/v1/{path}") == content
    # The other domain's token cannot even see that the id is taken by a message of its own call.
    assert await two.get(f"{LIST}/{uuid}", "other", 404) == await two.get(f"{LIST}/{uuid4()}", "other", 404)
    assert [message["id"] for message in (await two.get(LIST, "other"))["data"]] == [later["id"]]


async def test_each_mail_is_from_its_own_domain(two: TwoDomains) -> None:
    await call(two.switch, "101", DOMAIN)
    await call(two.switch, "101", OTHER)

    mails = await two.mails(2)

    near, far = mails["near@example.com"], mails["far@example.com"]
    assert (near.sender, far.sender) == (f"voicemail@{DOMAIN}", "post@elsewhere.example")
    assert near.parsed["From"] == f"Voicemail <voicemail@{DOMAIN}>"
    (sender,) = far.parsed["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Büro, Nord", "post@elsewhere.example")
    assert near.parsed["Reply-To"] is None
    assert far.parsed["Reply-To"] == "answers@elsewhere.example"
    assert near.parsed["Message-ID"].endswith(f"@{DOMAIN}>")
    assert far.parsed["Message-ID"].endswith("@elsewhere.example>")
    texts = {mail: mail.parsed.get_body(("plain",)).get_content() for mail in (near, far)}  # type: ignore[union-attr]
    assert f"101 at {DOMAIN}" in texts[near]
    assert "Ho Chi Minh time, UTC+07:00" in texts[near]
    assert f"101 at {OTHER}" in texts[far]
    assert "St Johns time, UTC-0" in texts[far]


async def test_a_mail_s_history_is_its_own_domain_s(two: TwoDomains) -> None:
    near, far = await call(two.switch, "101", DOMAIN), await call(two.switch, "101", OTHER)
    for left in (near, far):
        await two.site.until(f"{LIST}/{left.uuid}/notification", state="sent")
    absent = await two.get(f"{LIST}/{uuid4()}/notification", "lab", 404)

    found = {
        "default": await two.get(f"{LIST}/101/notification"),
        "named": await two.get(f"{LIST}/101/notification?domain={OTHER}"),
        "by id": await two.get(f"{LIST}/{far.uuid}/notification", "other"),
    }

    assert {name: (one["message_id"], one["domain"]) for name, one in found.items()} == {
        "default": (near.uuid, DOMAIN), "named": (far.uuid, OTHER), "by id": (far.uuid, OTHER),
    }  # fmt: skip
    for path in (f"{far.uuid}/notification", f"101/notification?domain={OTHER}", f"{far.uuid}/notification?domain={OTHER}"):
        assert await two.get(f"{LIST}/{path}", "lab", 404) == absent


async def test_after_the_mail_the_recording_goes_in_the_one_domain_that_wants_that_and_its_phones_are_told(
    two: TwoDomains,
) -> None:
    near, far = await call(two.switch, "101", DOMAIN), await call(two.switch, "101", OTHER)
    async with await PlainClient.connect(two.switch.port, two.switch.password) as phones:
        await phones.command(EVENTS)

        await two.site.until(f"{LIST}/{far.uuid}/notification", recording={"state": "deleted", "detail": ""})
        await phones.event("MESSAGE_WAITING", MWI_Message_Account=f"101@{OTHER}", MWI_Voice_Message="0/0")

        told = {event["MWI-Message-Account"] for event in phones.events}
    assert told == {f"101@{OTHER}"}
    assert (near.path.exists(), far.path.exists()) == (True, False)
    assert [message["id"] for message in (await two.get(f"{LIST}?domain=*"))["data"]] == [near.uuid]
    assert (await two.get(f"{LIST}/{near.uuid}/notification"))["recording"]["state"] == "kept"


async def test_a_message_of_a_domain_that_is_not_hosted_is_seen_by_tokens_of_every_domain_only_and_never_mailed(
    two: TwoDomains,
) -> None:
    left = await call(two.switch, "101", "unhosted.example")
    near = await call(two.switch, "101", DOMAIN)
    await two.mails(1)

    assert (await two.get(f"{LIST}/{left.uuid}", "all"))["domain"] == "unhosted.example"
    everything = (await two.get(f"{LIST}?domain=*", "all"))["data"]
    assert {message["id"] for message in everything} == {left.uuid, near.uuid}
    assert (await two.get(f"{LIST}?domain=unhosted.example", "all"))["total"] == 1
    assert [message["id"] for message in (await two.get(f"{LIST}?domain=*"))["data"]] == [near.uuid]
    await two.get(f"{LIST}/{left.uuid}", "both", 404)
    await two.get(f"{LIST}/{left.uuid}/notification", "all", 404)
    assert [mail.recipients[0] for mail in two.site.mail.messages] == ["near@example.com"]


async def test_a_domain_that_cannot_be_seen_is_as_absent_as_one_that_is_not_there(two: TwoDomains) -> None:
    await call(two.switch, "101", OTHER)

    foreign = await two.get(f"{LIST}?domain={OTHER}", "lab", 404)

    assert foreign == await two.get(f"{LIST}?domain=nowhere.example", "lab", 404)
    assert foreign == await two.get(f"{LIST}?domain=nowhere.example", "all", 404)
    for wrong in ("a b", "..", "%00", "a%0Ab", "'", "x" * 254, "%F0%9F%8E%89"):
        for path in (LIST, f"{LIST}/101", f"{LIST}/{uuid4()}/download", f"{LIST}/101/notification"):
            problem = await two.get(f"{path}?domain={wrong}", "lab", 422)
            assert [error["field"] for error in problem["errors"]] == ["domain"]


async def test_an_empty_domain_is_as_if_it_were_left_out(two: TwoDomains) -> None:
    left = await call(two.switch, "101", DOMAIN)

    assert (await two.get(f"{LIST}?domain="))["total"] == 1
    assert (await two.get(f"{LIST}/101?domain="))["id"] == left.uuid
    async with aiohttp.ClientSession(two.site.client._base_url) as nobody, nobody.get(f"{LIST}?domain=*") as answer:
        assert answer.status == 401
