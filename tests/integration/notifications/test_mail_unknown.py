"""A mail server that takes a mail and does not say so: the mail is not sent again and again, and does not hold up the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.database.pool import Pool
from app.notifications.mail.conversation import Limits
from app.notifications.model import NOTIFY, MailRetries, NotificationState, RecipientState, RecordingState
from app.notifications.slots import Slots
from tests.support.mail_process import QUICK, SOON, MailProcess
from tests.support.pbx import Site
from tests.support.scripted_mail import CLOSE, SILENT, ScriptedMail

PATIENT = Limits()
LATER = MailRetries(first=0.05, longest=0.1, lease=0.2, unknown_pause=1800.0)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedMail]:
    async with ScriptedMail() as server:
        yield server


class Desks:
    """Processes that mail, each a mail_process."""

    def __init__(self, dsn: str, pool: Pool, recordings: Path, server: ScriptedMail) -> None:
        self._made: list[MailProcess] = []
        self._dsn, self._pool, self._recordings, self._server = dsn, pool, recordings, server

    async def open(self, **options: Any) -> MailProcess:
        """One more process; the first makes the mailbox."""
        mail_process = MailProcess(self._dsn, self._pool, self._recordings, self._server.port, None, **options)  # type: ignore[arg-type]
        if not self._made:
            await mail_process.begin()
        self._made.append(mail_process)
        return mail_process

    async def close(self) -> None:
        """End all of them."""
        for mail_process in self._made:
            await mail_process.close()


@pytest.fixture
async def desks(database: str, pool: Pool, tmp_path: Path, server: ScriptedMail) -> AsyncIterator[Desks]:
    desks = Desks(database, pool, tmp_path, server)
    yield desks
    await desks.close()


def contents(server: ScriptedMail) -> int:
    """How often the server was sent a mail's content."""
    return server.commands.count("DATA")


async def until_content(server: ScriptedMail, count: int = 1) -> None:
    """Wait until the server has so many mails, and everybody waits for its answer."""
    async with asyncio.timeout(10):
        while contents(server) < count:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("how", [SILENT, CLOSE, "nonsense"])
async def test_a_mail_without_an_answer_is_sent_three_times_more_and_left_unknown(
    desks: Desks, server: ScriptedMail, how: str
) -> None:
    mail_process = await desks.open()
    await mail_process.mailbox(mail_to=("tech@example.com", "sales@example.com"))
    server.replies["CONTENT"] = how
    path, notification = await mail_process.leave()

    await mail_process.work(20)

    found, recipients = await mail_process.look(notification)
    assert (found.state, found.recording_state) == (NotificationState.UNKNOWN, RecordingState.KEPT)
    assert {recipient.state for recipient in recipients} == {RecipientState.UNKNOWN}
    assert all(recipient.settled_at is None and recipient.reply for recipient in recipients)
    assert contents(server) == 4
    assert (found.attempts, found.unknowns) == (4, 4)
    assert "tech@example.com: " in found.detail
    assert found.recording_detail
    assert path.exists()


async def test_a_mail_without_an_answer_waits_half_an_hour_and_says_so(desks: Desks, server: ScriptedMail) -> None:
    mail_process = await desks.open(retries=LATER)
    await mail_process.mailbox()
    server.replies["CONTENT"] = CLOSE
    _, notification = await mail_process.leave()
    for _ in range(3):
        await mail_process.mailer.deliver(str(notification))
        await asyncio.sleep(0.1)

    found, recipients = await mail_process.look(notification)
    assert contents(server) == 1
    assert found.state is NotificationState.QUEUED
    assert "did not say whether it accepted it" in found.detail
    assert [recipient.state for recipient in recipients] == [RecipientState.UNKNOWN]
    pause = await mail_process.pool.fetchval("SELECT extract(epoch FROM next_try_at - now()) FROM voicemail.notification")
    assert 1700 < pause <= 1800


async def test_a_repeated_mail_that_is_accepted_is_sent(desks: Desks, server: ScriptedMail) -> None:
    mail_process = await desks.open()
    await mail_process.mailbox(local_after_email=True)
    server.replies["CONTENT"] = CLOSE
    _, notification = await mail_process.leave()
    await mail_process.mailer.deliver(str(notification))
    server.replies["CONTENT"] = "451 4.7.1 later"
    await asyncio.sleep(0.4)
    await mail_process.mailer.deliver(str(notification))
    found, recipients = await mail_process.look(notification)
    assert (recipients[0].state, recipients[0].code, found.unknowns) == (RecipientState.PENDING, 451, 1)

    server.replies.clear()
    await mail_process.work()

    found, recipients = await mail_process.look(notification)
    assert (found.state, recipients[0].state) == (NotificationState.SENT, RecipientState.ACCEPTED)
    assert len(server.mails) == 1


async def test_a_message_deleted_after_a_mail_without_an_answer_leaves_it_unknown(desks: Desks, server: ScriptedMail) -> None:
    mail_process = await desks.open()
    await mail_process.mailbox()
    server.replies["CONTENT"] = CLOSE
    _, notification = await mail_process.leave()
    await mail_process.mailer.deliver(str(notification))
    await mail_process.pool.execute("UPDATE voicemail_msgs SET flags = 'delete'")

    await mail_process.work()

    found, _ = await mail_process.look(notification)
    assert (found.state, found.recording_state) == (NotificationState.UNKNOWN, RecordingState.KEPT)
    assert "not known" in found.detail
    assert contents(server) == 1


async def test_content_that_did_not_get_through_is_tried_again_soon(desks: Desks, server: ScriptedMail) -> None:
    mail_process = await desks.open(retries=LATER)
    await mail_process.mailbox(local_after_email=True)
    server.replies["DATA"] = lambda _line: server.replies.pop("DATA") and "451 not now"
    _, notification = await mail_process.leave()
    await mail_process.mailer.deliver(str(notification))
    assert (await mail_process.look(notification))[1][0].state is RecipientState.PENDING

    await mail_process.work()

    assert (await mail_process.look(notification))[0].state is NotificationState.SENT


async def test_a_process_that_ends_while_it_waits_leaves_the_mail_unknown_and_nobody_hurries(
    desks: Desks, server: ScriptedMail
) -> None:
    first, second = await desks.open(retries=LATER, limits=PATIENT), await desks.open(retries=LATER, limits=PATIENT)
    await first.mailbox()
    _, notification = await first.leave()
    server.replies["CONTENT"] = SILENT
    attempt = asyncio.ensure_future(first.mailer.deliver(str(notification)))
    await until_content(server)
    attempt.cancel()
    await asyncio.wait({attempt})
    await asyncio.sleep(0.3)  # longer than the lease of an attempt
    server.replies.clear()

    await second.mailer.deliver(str(notification))

    found, recipients = await second.look(notification)
    assert (found.state, found.unknowns, recipients[0].state) == (NotificationState.QUEUED, 1, RecipientState.UNKNOWN)
    assert contents(server) == 1


async def test_a_process_that_lost_its_lock_while_it_waits_for_an_answer_is_not_overtaken(
    desks: Desks, server: ScriptedMail
) -> None:
    first, second = await desks.open(retries=LATER, limits=PATIENT), await desks.open(retries=LATER, limits=PATIENT)
    await first.mailbox(local_after_email=True)
    _, notification = await first.leave()
    answer = asyncio.Event()
    server.replies["CONTENT"] = answer
    attempt = asyncio.ensure_future(first.mailer.deliver(str(notification)))
    await until_content(server)
    await first.pool.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'voicemail claims'")
    await asyncio.sleep(0.3)
    await second.mailer.deliver(str(notification))
    answer.set()
    await attempt

    found, recipients = await second.look(notification)
    assert (found.state, found.unknowns, recipients[0].state) == (NotificationState.SENT, 0, RecipientState.ACCEPTED)
    assert contents(server) == 1


async def test_an_attempt_that_another_process_overtook_sends_nothing(desks: Desks, server: ScriptedMail) -> None:
    """A server that is slow to greet, and a lock that was lost: the attempt that comes to the content first is the only one."""
    first, second = await desks.open(retries=LATER, limits=PATIENT), await desks.open(retries=LATER, limits=PATIENT)
    await first.mailbox(local_after_email=True)
    _, notification = await first.leave()
    greeting = asyncio.Event()
    server.replies["RCPT"] = greeting
    attempt = asyncio.ensure_future(first.mailer.deliver(str(notification)))
    async with asyncio.timeout(10):
        while not server.commands or not server.commands[-1].startswith("RCPT"):
            await asyncio.sleep(0.01)
    await first.pool.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'voicemail claims'")
    await asyncio.sleep(0.3)
    server.replies.clear()
    await second.mailer.deliver(str(notification))
    greeting.set()
    await attempt

    found, _ = await second.look(notification)
    assert (found.state, found.attempts, len(server.mails)) == (NotificationState.SENT, 2, 1)


async def test_slow_answers_do_not_keep_the_places_of_other_mails_and_the_service_stops_at_once(
    desks: Desks, server: ScriptedMail
) -> None:
    at_once, slow = 2, 4
    mail_process = await desks.open(
        retries=LATER, limits=PATIENT, connections=at_once + slow, slots=Slots(slow=slow, give_way=0.1)
    )
    await mail_process.mailbox("101", mail_to=("slow@example.com",))
    await mail_process.mailbox("102", mail_to=("quick@example.com",))
    server.replies["CONTENT"] = lambda mail: SILENT if "slow@example.com" in mail else "250 taken"
    mail_process.jobs.register(NOTIFY, mail_process.mailer.deliver, concurrency=at_once)
    worker = asyncio.ensure_future(mail_process.jobs.run())
    late = [(await mail_process.leave(username="101"))[1] for _ in range(slow)]
    await until_content(server, slow)

    quick = [(await mail_process.leave(username="102"))[1] for _ in range(6)]
    await _until_sent(mail_process, quick)

    assert contents(server) == len(quick) + len(late)
    async with asyncio.timeout(8):
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker
        await mail_process.close()
    for notification in late:
        found, recipients = await mail_process.look(notification)
        assert (found.state, recipients[0].state) == (NotificationState.QUEUED, RecipientState.UNKNOWN)


async def test_no_more_mails_than_places_and_slow_ones_are_under_way(desks: Desks, server: ScriptedMail) -> None:
    at_once, slow = 2, 3
    mail_process = await desks.open(retries=LATER, limits=PATIENT, connections=100, slots=Slots(slow=slow, give_way=0.05))
    await mail_process.mailbox()
    server.replies["CONTENT"] = SILENT
    mail_process.jobs.register(NOTIFY, mail_process.mailer.deliver, concurrency=at_once)
    worker = asyncio.ensure_future(mail_process.jobs.run())
    for _ in range(10):
        await mail_process.leave()
    await until_content(server, at_once + slow)
    await asyncio.sleep(1.0)

    assert contents(server) == at_once + slow
    worker.cancel()
    with suppress(asyncio.CancelledError):
        await worker


async def test_the_api_says_that_the_acceptance_is_unknown(stand_in_site: Site, pool: Pool) -> None:
    site = stand_in_site
    await site.create("101")
    site.mail.refuse("tech@example.com")
    left = await site.switch.leave_message("101")
    path = f"/v1/voicemail/message/{left.uuid}/notification"
    await site.until(path, state="failed")
    await pool.execute("UPDATE voicemail.notification SET state = 'unknown'")
    await pool.execute("UPDATE voicemail.notification_recipient SET state = 'unknown', code = NULL, settled_at = NULL")

    shown = await site.get(path)

    assert (shown["state"], shown["recording"]["state"], shown["next_try_at"]) == ("unknown", "kept", None)
    assert shown["recipients"][0]["state"] == "unknown"
    description = str((await site.get("/openapi.json"))["components"]["schemas"])
    assert "'unknown', 'accepted'" in description
    assert "'unknown', 'cancelled'" in description


async def _until_sent(mail_process: MailProcess, notifications: list[UUID]) -> None:
    async with asyncio.timeout(20):
        for notification in notifications:
            while (await mail_process.look(notification))[0].state is not NotificationState.SENT:
                await asyncio.sleep(0.05)


def test_the_time_limits_are_those_of_the_rfc_and_a_repeat_comes_after_the_longest_wait() -> None:
    limits, retries = Limits(), MailRetries()

    assert (limits.greeting, limits.mail, limits.rcpt) == (300, 300, 300)
    assert (limits.data, limits.block, limits.termination) == (120, 180, 600)
    assert limits.connect <= 30
    assert (retries.unknown_pause, retries.unknown_tries) == (1800, 3)
    assert limits.longest_content + 2 * 60 < retries.unknown_pause
    assert QUICK.termination < SOON.give_up_after
