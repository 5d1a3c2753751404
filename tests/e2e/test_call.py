"""What a caller does, from the first word into the recording to the mail in somebody's inbox."""

import asyncio
from email.message import EmailMessage

import asyncpg
import pytest

from tests.support.pbx import DOMAIN, PATIENCE, Site

FORGED = "x %0AVM-User: 102"
HOSTILE = (
    FORGED,
    "Bcc: everyone@example.com\r\nX: y",
    "</text>'\"; DROP TABLE voicemail_msgs; --",
    "${hostname} $${domain} %s {0}",
    "../../etc/passwd",
    "=?utf-8?q?evil?= <boss@example.com>",
    "🎉" * 60,
    "n" * 255,
    "\u202egnp.exe\u2066",
    "nul\0after",
    "",
)


@pytest.fixture
def site(twin_site: Site) -> Site:
    """Every call here is one in the first of two domains that have the same extensions."""
    return twin_site


def audio_of(mail: EmailMessage) -> bytes:
    """The recording that a mail brings."""
    (attachment,) = mail.iter_attachments()
    content = attachment.get_content()
    assert isinstance(content, bytes)
    return content


async def test_a_call_becomes_a_mail_with_the_recording_and_a_message_in_the_api(site: Site) -> None:
    await site.create("101", mail_to="tech@example.com", description="For Tech")

    left = await site.switch.leave_message("101", caller_name="Alice Nguyễn", caller_number="0891234567")

    await site.mail.wait_for(1, timeout=PATIENCE)
    (caught,) = site.mail.messages
    assert caught.recipients == ("tech@example.com",)
    assert "Alice Nguyễn" in caught.parsed["Subject"]
    assert caught.parsed["Auto-Submitted"] == "auto-generated"
    assert audio_of(caught.parsed) == left.path.read_bytes()
    page = await site.get("/v1/voicemail/message?extension=101")
    (message,) = page["data"]
    assert (message["id"], message["caller_id_name"], message["extension"]) == (left.uuid, "Alice Nguyễn", "101")
    whole = await site.get(f"/v1/voicemail/message/{left.uuid}")
    assert message["duration"] == int(whole["audio"]["duration"])
    assert message["created_at"].endswith("+07:00")
    async with site.client.get(message["download_url"]) as download:
        assert download.content_type == "audio/wav"
        assert await download.read() == left.path.read_bytes()


async def test_a_caller_who_is_called_like_a_web_page_is_no_link(site: Site) -> None:
    await site.create("101")

    await site.switch.leave_message("101", caller_name="http://evil.example/win", caller_number="www.evil.example")

    await site.mail.wait_for(1, timeout=PATIENCE)
    parsed = site.mail.messages[0].parsed
    texts = [str(parsed["Subject"]), *(parsed.get_body((kind,)).get_content() for kind in ("plain", "html"))]  # type: ignore[union-attr]
    for text in texts:
        assert "http[:]//evil[.]example/win" in text
        assert "evil.example" not in text


async def test_a_recording_that_grows_is_not_mailed_before_its_call_ended(site: Site) -> None:
    await site.create("101")

    calling = asyncio.ensure_future(site.switch.leave_message("101", talking=4.0))
    async with asyncio.timeout(PATIENCE):
        while not list(site.switch.recordings.rglob("msg_*.wav")):
            await asyncio.sleep(0.05)
    await asyncio.sleep(2)  # the time in which a careless service would have mailed it
    mailed_while_talking = len(site.mail.messages)
    left = await calling

    await site.mail.wait_for(1, timeout=PATIENCE)
    assert mailed_while_talking == 0
    assert audio_of(site.mail.messages[0].parsed) == left.path.read_bytes()


async def test_the_recording_is_removed_after_the_mail_where_the_mailbox_says_so(site: Site) -> None:
    await site.create("101", local_after_email=False)
    await site.create("102", local_after_email=True, mail_to="sales@example.com")

    gone = await site.switch.leave_message("101")
    kept = await site.switch.leave_message("102")

    await site.mail.wait_for(2, timeout=PATIENCE)
    history = await site.until(f"/v1/voicemail/message/{kept.uuid}/notification", state="sent")
    assert history["recording"]["state"] == "kept"
    async with asyncio.timeout(PATIENCE):
        while gone.path.exists():
            await asyncio.sleep(0.05)
    assert (await site.get("/v1/voicemail/message?extension=101"))["total"] == 0
    assert kept.path.exists()
    mail = next(mail for mail in site.mail.messages if mail.recipients == ("tech@example.com",))
    assert audio_of(mail.parsed).startswith(b"RIFF")


async def test_a_refused_mail_keeps_the_recording(site: Site) -> None:
    await site.create("101", mail_to="gone@example.com", local_after_email=False)
    site.mail.refuse("gone@example.com")

    left = await site.switch.leave_message("101")

    history = await site.until(f"/v1/voicemail/message/{left.uuid}/notification", state="failed")
    assert history["recipients"][0]["state"] == "refused"
    assert history["recipients"][0]["code"] == 550
    assert history["recording"]["state"] == "kept"
    assert left.path.exists()


async def test_one_refused_recipient_of_two_keeps_the_recording_and_the_other_has_the_mail(site: Site) -> None:
    await site.create("101", mail_to="gone@example.com, tech@example.com", local_after_email=False)
    site.mail.refuse("gone@example.com")

    left = await site.switch.leave_message("101")

    history = await site.until(f"/v1/voicemail/message/{left.uuid}/notification", state="failed")
    states = {recipient["address"]: recipient["state"] for recipient in history["recipients"]}
    assert states == {"gone@example.com": "refused", "tech@example.com": "accepted"}
    assert left.path.exists()
    assert [mail.recipients for mail in site.mail.messages] == [("tech@example.com",)]


async def test_a_mail_that_waits_while_the_switch_makes_its_table_anew_goes_and_its_recording_stays(site: Site) -> None:
    await site.create("101", local_after_email=False)
    site.mail.refuse("tech@example.com", "451 4.7.1 greylisted")
    left = await site.switch.leave_message("101", caller_name="Alice")
    path = f"/v1/voicemail/message/{left.uuid}/notification"
    await site.until(path, state="queued")
    async with asyncio.timeout(PATIENCE):
        while (await site.get(path))["recipients"][0]["code"] != 451:
            await asyncio.sleep(0.05)

    await site.switch.stop()
    connection = await asyncpg.connect(site.dsn)
    await connection.execute("DROP TABLE voicemail_msgs")
    await site.switch.start()
    assert await connection.fetchval("SELECT count(*) FROM voicemail_msgs") == 0
    await connection.close()
    site.mail.accept("tech@example.com")

    history = await site.until(path, state="sent", seconds=60)
    assert history["recording"]["state"] == "kept"
    assert "did not list the message any more" in history["recording"]["detail"]
    assert left.path.exists()
    (caught,) = site.mail.messages
    assert "Alice" in caught.parsed["Subject"]
    assert audio_of(caught.parsed) == left.path.read_bytes()


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
async def test_no_caller_name_sends_a_mail_elsewhere_or_breaks_it(stand_in_site: Site, name: str) -> None:
    site = stand_in_site
    await site.create("101", mail_to="tech@example.com")
    await site.create("102", mail_to="sales@example.com")

    left = await site.switch.leave_message("101", caller_name=name, caller_number="0891%0AVM-Domain: other.example")

    await site.mail.wait_for(1, timeout=PATIENCE)
    await site.until(f"/v1/voicemail/message/{left.uuid}/notification", state="sent")
    (caught,) = site.mail.messages
    assert caught.recipients == ("tech@example.com",)
    assert caught.parsed["To"] == "tech@example.com"
    assert {"Bcc", "Cc", "X"}.isdisjoint(caught.parsed.keys())
    assert len(audio_of(caught.parsed)) == 302668
    assert (await site.get("/v1/voicemail/message?extension=101"))["total"] == 1
    assert (await site.get("/v1/voicemail/message?extension=102"))["total"] == 0


async def test_a_caller_name_that_forges_an_event_mails_nobody_else(site: Site) -> None:
    await site.create("101", mail_to="tech@example.com")
    await site.create("102", mail_to="sales@example.com")

    left = await site.switch.leave_message("101", caller_name=FORGED)

    await site.until(f"/v1/voicemail/message/{left.uuid}/notification", state="sent")
    assert [mail.recipients for mail in site.mail.messages] == [("tech@example.com",)]
    assert (await site.get(f"/v1/voicemail/message/{left.uuid}"))["caller_id_name"] == FORGED


async def test_a_mailbox_without_an_address_keeps_its_messages_and_mails_none(site: Site) -> None:
    await site.create("101", mail_to="")
    await site.create("102", mail_to="sales@example.com")

    silent = await site.switch.leave_message("101")
    await site.switch.leave_message("102")

    await site.mail.wait_for(1, timeout=PATIENCE)
    assert [mail.recipients for mail in site.mail.messages] == [("sales@example.com",)]
    assert (await site.get(f"/v1/voicemail/message/{silent.uuid}"))["extension"] == "101"


async def test_a_disabled_mailbox_takes_no_messages(site: Site) -> None:
    await site.create("101", enabled=False)

    with pytest.raises(LookupError):
        await site.switch.leave_message("101")


async def test_ten_thousand_messages_from_before_the_first_start_are_listed_and_never_mailed(database: str, site: Site) -> None:
    await site.close()
    connection = await asyncpg.connect(database)
    await connection.execute("DROP SCHEMA voicemail CASCADE")
    await connection.execute(
        """
        INSERT INTO voicemail_msgs
        SELECT floor(extract(epoch FROM now()))::int - 60 - n, 0, '101', $1, 'old-' || n, 'Old', '1', 'inbox',
            '/gone/msg_' || n || '.wav', 5, '', 'B_NORMAL', '' FROM generate_series(1, 10000) AS n
        """,
        DOMAIN,
    )

    await site.open()
    await site.create("101")
    left = await site.switch.leave_message("101")
    await site.until(f"/v1/voicemail/message/{left.uuid}/notification", state="sent")

    assert (await site.get("/v1/voicemail/message?extension=101"))["total"] == 10001
    assert await connection.fetchval("SELECT count(*) FROM voicemail.notification") == 1
    assert len(site.mail.messages) == 1
    await connection.close()


async def test_a_message_left_while_the_service_was_down_is_mailed_when_it_starts(site: Site) -> None:
    await site.create("101")
    await site.close()
    await site.switch.start()
    left = await site.switch.leave_message("101")
    await site.switch.stop()

    await site.open()

    await site.mail.wait_for(1, timeout=PATIENCE)
    assert audio_of(site.mail.messages[0].parsed) == left.path.read_bytes()


async def test_a_mailbox_made_while_the_switch_is_away_takes_messages_when_it_is_back(site: Site) -> None:
    await site.switch.stop()
    mailbox = await site.create("101")
    assert mailbox["directory"]["state"] == "pending"

    await site.switch.start()
    await site.until("/v1/voicemail/101", directory={"state": "applied", "detail": ""})
    await site.switch.leave_message("101")

    await site.mail.wait_for(1, timeout=PATIENCE)


async def test_a_deleted_mailbox_is_gone_from_the_switch_and_its_messages_stay(site: Site) -> None:
    await site.create("101")
    left = await site.switch.leave_message("101")
    await site.mail.wait_for(1, timeout=PATIENCE)

    async with site.client.delete("/v1/voicemail/101") as answer:
        assert (answer.status, await answer.json()) == (
            200,
            {"message": "successfully", "directory": {"state": "applied", "detail": ""}},
        )

    with pytest.raises(LookupError):
        await site.switch.leave_message("101")
    assert (await site.get(f"/v1/voicemail/message/{left.uuid}"))["extension"] == "101"
    assert left.path.exists()
