"""An address that a mailbox has no more is told so, once, and nobody can have strangers mailed by it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from app.database.pool import Pool
from app.mailboxes import store as mailboxes
from app.notifications.model import NotificationState, RecipientState, RecordingState
from app.notifications.notices.dropped import MOST_OF_DOMAIN, MOST_OF_MAILBOX, MOST_TO_ADDRESS
from app.sandbox.mail import MailCatcher
from app.switch.esl.event_socket import EventSocket
from tests.support.mail_process import MailProcess
from tests.support.scripted_mail import CLOSE, ScriptedMail
from tests.support.switch_rows import DOMAIN


@pytest.fixture
async def mail() -> AsyncIterator[MailCatcher]:
    catcher = MailCatcher()
    await catcher.start()
    yield catcher
    await catcher.stop()


def process(database: str, pool: Pool, recordings: Path, port: int) -> MailProcess:
    return MailProcess(database, pool, recordings, port, EventSocket("127.0.0.1", 1, "unused"))


@pytest.fixture
async def mails(database: str, pool: Pool, tmp_path: Path, mail: MailCatcher) -> AsyncIterator[MailProcess]:
    mails = process(database, pool, tmp_path, mail.port)
    await mails.begin()
    yield mails
    await mails.close()


async def drop(mails: MailProcess, *addresses: str, extension: str = "101", now: str = "new@example.com") -> None:
    """What a change of a mailbox does: its row, and the mails to whom it dropped."""
    async with mails.pool.acquire() as connection, connection.transaction():
        mailbox = await mailboxes.lock(connection, DOMAIN, extension)
        assert mailbox is not None
        await mails.dropped.tell(connection, mailbox, addresses)
        await connection.execute("UPDATE voicemail.mailbox SET mail_to = $2 WHERE id = $1", mailbox.id, now)


async def states(pool: Pool) -> list[tuple[str, str]]:
    rows = await pool.fetch("SELECT address, state FROM voicemail.notice ORDER BY created_at, address")
    return [(row["address"], row["state"]) for row in rows]


async def test_each_dropped_address_is_told_in_a_mail_of_its_own(mails: MailProcess, mail: MailCatcher) -> None:
    await mails.mailbox(mail_to=("a@example.com", "b@example.com"), description="Secret plan")
    await drop(mails, "a@example.com", "b@example.com")

    await mails.work()
    await mails.work()

    assert sorted(sent.recipients for sent in mail.messages) == [("a@example.com",), ("b@example.com",)]
    for sent in mail.messages:
        assert sent.parsed["To"] == sent.recipients[0]
        assert sent.parsed["Subject"] == "Voicemail of mailbox 101 at lab.local no longer goes to this address"
        text = sent.parsed.get_content()
        assert text.startswith("Voicemail of mailbox 101 at lab.local no longer goes to this address.")
        for hidden in (
            "new@example.com",
            "Secret plan",
            "sealed",
            "b@example.com" if "a@" in sent.recipients[0] else "a@example.com",
        ):
            assert hidden not in text
        assert sent.parsed["Auto-Submitted"] == "auto-generated"
        assert sent.parsed["Message-ID"].endswith("@lab.local>")


async def test_an_address_that_comes_back_before_the_mail_is_not_told(mails: MailProcess, mail: MailCatcher) -> None:
    await mails.mailbox(mail_to=("a@example.com",))
    await drop(mails, "a@example.com", now="A@example.com")

    await mails.work()

    assert mail.messages == []
    assert await states(mails.pool) == [("a@example.com", "cancelled")]


async def test_a_deleted_mailbox_tells_its_addresses_and_one_made_anew_does_not(mails: MailProcess, mail: MailCatcher) -> None:
    for extension in ("101", "102"):
        mailbox = await mails.mailbox(extension, mail_to=(f"{extension}@example.com",))
        await drop(mails, f"{extension}@example.com", extension=extension)
        async with mails.pool.acquire() as connection:
            await mailboxes.delete(connection, mailbox)
    await mails.mailbox("102", mail_to=("102@example.com",))

    await mails.work()

    assert [sent.recipients for sent in mail.messages] == [("101@example.com",)]


async def test_a_rolled_back_change_tells_nobody(mails: MailProcess, mail: MailCatcher) -> None:
    await mails.mailbox(mail_to=("a@example.com",))
    async with mails.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        mailbox = await mailboxes.lock(connection, DOMAIN, "101")
        assert mailbox is not None
        await mails.dropped.tell(connection, mailbox, ["a@example.com"])
        await transaction.rollback()

    await mails.work()

    assert (await states(mails.pool), mail.messages) == ([], [])
    assert await mails.pool.fetchval("SELECT count(*) FROM voicemail.pgqueuer WHERE entrypoint = 'notice'") == 0


async def test_nobody_can_have_strangers_mailed_at_will(mails: MailProcess, mail: MailCatcher) -> None:
    for extension in ("101", "102", "103", "104", "105"):
        await mails.mailbox(extension)
        for _ in range(3):
            await drop(mails, "victim@example.com", "VICTIM@EXAMPLE.com", extension=extension)
    for start in range(0, 60, 20):
        await drop(mails, *(f"stranger{number}@example.com" for number in range(start, start + 20)))

    await mails.work()

    to = [sent.recipients[0].lower() for sent in mail.messages]
    assert to.count("victim@example.com") == MOST_TO_ADDRESS
    assert len(to) - MOST_TO_ADDRESS == MOST_OF_MAILBOX - 1
    await mails.pool.execute("UPDATE voicemail.notice SET created_at = created_at - interval '61 minutes'")
    await drop(mails, "victim@example.com")
    await mails.work()
    assert len(mail.messages) == len(to) + 1


async def test_no_domain_mails_many_strangers(mails: MailProcess, mail: MailCatcher) -> None:
    for extension in range(201, 208):
        await mails.mailbox(str(extension))
        await drop(mails, *(f"s{extension}-{number}@example.com" for number in range(20)), extension=str(extension))

    await mails.work()

    assert len(mail.messages) == MOST_OF_DOMAIN


async def test_nobody_can_use_up_the_limit_and_then_divert_a_mailbox_unseen(mails: MailProcess, mail: MailCatcher) -> None:
    await mails.mailbox(mail_to=("owner@example.com",), local_after_email=True)
    await mails.leave(b"RIFFdata")
    await mails.work()
    await drop(mails, *(f"stranger{number}@example.com" for number in range(20)), now="owner@example.com")
    for extension in ("102", "103", "104"):
        await mails.mailbox(extension, mail_to=("owner@example.com",))
        await drop(mails, "owner@example.com", extension=extension)

    await drop(mails, "owner@example.com")
    await mails.work()

    about = [sent.parsed["Subject"] for sent in mail.messages if sent.recipients == ("owner@example.com",)]
    assert "Voicemail of mailbox 101 at lab.local no longer goes to this address" in about


@pytest.mark.parametrize("extension", ["win.evil.example", "www.evil.example", "a.b-c_d"])
async def test_an_extension_that_looks_like_a_host_name_is_no_link(mails: MailProcess, mail: MailCatcher, extension: str) -> None:
    await mails.mailbox(extension, mail_to=("a@example.com",))
    await drop(mails, "a@example.com", extension=extension)

    await mails.work()

    (sent,) = mail.messages
    assert "evil.example" not in sent.parsed["Subject"] + sent.parsed.get_content()


@pytest.mark.parametrize(
    "address", ["a@b.example\r\nBcc: x@y.example", "a b@c.example", "<a@b.example>", "@", "a@b@c", "ä@b.example"]
)
async def test_what_nobody_can_be_mailed_at_fails_by_itself(mails: MailProcess, mail: MailCatcher, address: str) -> None:
    await mails.mailbox()
    await drop(mails, address, "fine@example.com")

    await mails.work()

    assert [sent.recipients for sent in mail.messages] == [("fine@example.com",)]
    assert dict(await states(mails.pool)) == {address: "failed", "fine@example.com": "sent"}


async def test_the_senders_are_the_domain_s(mails: MailProcess, mail: MailCatcher, pool: Pool) -> None:
    await pool.execute(
        "UPDATE voicemail.domain SET mail_from = 'post@a.example', mail_from_name = 'Büro', reply_to = 'x@a.example'"
    )
    await mails.mailbox(mail_to=("a@example.com",))
    await drop(mails, "a@example.com")

    await mails.work()

    (sent,) = mail.messages
    assert sent.sender == "post@a.example"
    assert sent.parsed["From"].addresses[0].display_name == "Büro"
    assert sent.parsed["Reply-To"] == "x@a.example"
    assert "Nobody reads" not in sent.parsed.get_content()


async def test_a_lost_answer_is_asked_for_again_with_the_same_message_id_and_ends_as_unknown(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    received: list[str] = []

    def take(content: str) -> str:
        received.append(next(line for line in content.splitlines() if line.startswith("Message-ID")))
        return CLOSE

    async with ScriptedMail() as server:
        server.replies["CONTENT"] = take
        mails = process(database, pool, tmp_path, server.port)
        await mails.mailbox()
        await drop(mails, "a@example.com")
        await mails.work()
        await mails.close()

    assert await states(pool) == [("a@example.com", "unknown")]
    assert (len(received), len(set(received))) == (4, 1)


async def test_a_notice_is_given_up_like_any_mail(mails: MailProcess, mail: MailCatcher) -> None:
    await mails.mailbox()
    await mail.stop()
    await drop(mails, "a@example.com")

    await mails.work()

    assert await states(mails.pool) == [("a@example.com", "failed")]


async def test_two_processes_send_a_notice_once(mails: MailProcess, mail: MailCatcher, database: str, tmp_path: Path) -> None:
    other = process(database, mails.pool, tmp_path, mail.port)
    await mails.mailbox()
    await drop(mails, *(f"a{number}@example.com" for number in range(8)))
    due = [str(UUID(int=row["id"].int)) for row in await mails.pool.fetch("SELECT id FROM voicemail.notice")]

    await asyncio.gather(*(each.notices.deliver(found) for found in due for each in (mails, other, mails, other)))
    await other.close()

    assert len(mail.messages) == 8


async def test_an_address_outside_the_domain_s_mail_domains_is_neither_mailed_nor_told(
    mails: MailProcess, mail: MailCatcher, pool: Pool
) -> None:
    """Mailboxes that were there before the domain was restricted: the ledger says why, and the recording stays."""
    await mails.mailbox(mail_to=("in@Good.example", "out@example.com"))
    path, notification = await mails.leave(b"RIFFdata")
    await pool.execute("UPDATE voicemail.domain SET mail_domains = '{good.example}' WHERE name = $1", DOMAIN)
    await drop(mails, "out@example.com", "far@sub.good.example", now="in@Good.example,out@example.com")

    await mails.work()

    assert [sent.recipients for sent in mail.messages] == [("in@Good.example",)]
    assert mail.messages[0].parsed["To"] == "in@Good.example"
    found, recipients = await mails.look(notification)
    assert (found.state, found.recording_state) == (NotificationState.FAILED, RecordingState.KEPT)
    assert {one.address: one.state for one in recipients} == {
        "in@Good.example": RecipientState.ACCEPTED, "out@example.com": RecipientState.REFUSED,
    }  # fmt: skip
    assert "mail_domains" in found.detail
    assert path.exists()
    assert set(await states(pool)) == {("far@sub.good.example", "cancelled"), ("out@example.com", "cancelled")}
