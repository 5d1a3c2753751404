"""Mails and removals of two domains that have the same extension and even the same call."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Pool
from app.notifications.model import NotificationState, RecordingState
from app.sandbox.mail import MailCatcher
from app.sandbox.switch import StandInSwitch
from app.switch.esl.event_socket import EventSocket
from tests.support.mail_process import MailProcess
from tests.support.pbx import stand_in
from tests.support.plain_client import PlainClient
from tests.support.switch_rows import DOMAIN
from tests.support.two_domains import OTHER, SETTINGS, host


@pytest.fixture
async def mail() -> AsyncIterator[MailCatcher]:
    catcher = MailCatcher()
    await catcher.start()
    yield catcher
    await catcher.stop()


@pytest.fixture
async def switch(database: str, tmp_path: Path) -> AsyncIterator[StandInSwitch]:
    switch = stand_in(database, tmp_path)
    await switch.start()
    yield switch
    await switch.stop()


@pytest.fixture
async def mails(database: str, pool: Pool, switch: StandInSwitch, mail: MailCatcher) -> AsyncIterator[MailProcess]:
    """What mails, with the mailbox 101 in two domains: only the other one has its recordings removed."""
    socket = EventSocket("127.0.0.1", switch.port, switch.password)
    socket.start()
    assert await socket.wait_connected(5)
    process = MailProcess(database, pool, switch.recordings, mail.port, socket)
    await process.begin()
    await host(pool, OTHER, **SETTINGS)
    await process.mailbox(mail_to=("near@example.com",), local_after_email=True)
    await process.mailbox(address=MailboxAddress(Extension("101"), Domain(OTHER)), mail_to=("far@example.com",))
    yield process
    await process.close()
    await socket.close()


async def leave(mails: MailProcess, domain: str, **fields: Any) -> tuple[Path, Any]:
    """A message of 101 in a domain, and its notification."""
    path = mails.recordings / domain / "101" / f"msg_{uuid4()}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    return await mails.leave(b"RIFFdata", domain=domain, file_path=str(path), **fields)


async def test_one_call_in_two_domains_is_two_mails_and_the_removal_of_one_leaves_the_other(
    mails: MailProcess, mail: MailCatcher, switch: StandInSwitch, pool: Pool
) -> None:
    uuid = str(uuid4())
    near, near_mail = await leave(mails, DOMAIN, uuid=uuid)
    far, far_mail = await leave(mails, OTHER, uuid=uuid)

    async with await PlainClient.connect(switch.port, switch.password) as phones:
        await phones.command("event plain MESSAGE_WAITING")
        await mails.work()
        await phones.event("MESSAGE_WAITING", MWI_Message_Account=f"101@{OTHER}")
        told = {event["MWI-Message-Account"] for event in phones.events}

    assert told == {f"101@{OTHER}"}
    assert (near.exists(), far.exists()) == (True, False)
    assert [row["domain"] for row in await pool.fetch("SELECT domain FROM voicemail_msgs")] == [DOMAIN]
    found = {}
    for name, notification in (("near", near_mail), ("far", far_mail)):
        settled, _ = await mails.look(notification)
        found[name] = (settled.state, settled.recording_state, settled.domain)
    assert found == {
        "near": (NotificationState.SENT, RecordingState.KEPT, DOMAIN),
        "far": (NotificationState.SENT, RecordingState.DELETED, OTHER),
    }
    assert {sent.recipients[0]: sent.sender for sent in mail.messages} == {
        "near@example.com": "voicemail@lab.local", "far@example.com": "post@elsewhere.example",
    }  # fmt: skip


async def test_a_domain_s_sender_is_the_one_of_the_moment_of_sending(mails: MailProcess, mail: MailCatcher, pool: Pool) -> None:
    await leave(mails, OTHER)
    await host(pool, OTHER, mail_from="new@elsewhere.example")

    await mails.work()

    (sent,) = mail.messages
    assert sent.sender == "new@elsewhere.example"
    assert sent.parsed["From"] == "Voicemail <new@elsewhere.example>"
    assert sent.parsed["Reply-To"] is None


async def test_a_kept_connection_serves_senders_of_several_domains(mails: MailProcess, mail: MailCatcher) -> None:
    for domain in (DOMAIN, OTHER, DOMAIN, OTHER):
        _, notification = await leave(mails, domain)
        await mails.mailer.deliver(str(notification))

    assert [sent.sender for sent in mail.messages] == ["voicemail@lab.local", "post@elsewhere.example"] * 2


@pytest.mark.parametrize("column", ["mail_from", "mail_from_name", "reply_to", "time_zone"])
async def test_a_setting_that_nobody_could_have_made_bends_no_mail(
    mails: MailProcess, mail: MailCatcher, pool: Pool, column: str
) -> None:
    await host(pool, OTHER, **{column: "a@b.example\r\nBcc: everyone@example.com"})
    await leave(mails, OTHER)

    await mails.work()

    (sent,) = mail.messages
    assert (sent.sender, list(sent.recipients)) == ("voicemail@lab.local", ["far@example.com"])
    assert sent.parsed["Bcc"] is None
    assert sent.parsed["From"].addresses[0].addr_spec == "voicemail@lab.local"


async def test_a_row_of_a_domain_that_is_not_hosted_is_recorded_and_never_mailed(mails: MailProcess, pool: Pool) -> None:
    path, notification = await leave(mails, "unhosted.example")

    await mails.work()

    assert notification.int == 0
    assert path.exists()
    assert await pool.fetchval("SELECT count(*) FROM voicemail.message WHERE domain = 'unhosted.example'") == 1


async def test_two_domains_at_once_do_not_wait_for_each_other(mails: MailProcess, mail: MailCatcher) -> None:
    left = [await leave(mails, domain) for domain in (DOMAIN, OTHER) for _ in range(3)]

    await asyncio.gather(*(mails.mailer.deliver(str(notification)) for _, notification in left))

    assert sorted(sent.sender for sent in mail.messages) == ["post@elsewhere.example"] * 3 + ["voicemail@lab.local"] * 3
