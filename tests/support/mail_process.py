"""The part of the service that mails: ledger, mailer and removal, one step at a time, as jobs would run them."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from app.addressing import Domain, Extension, MailboxAddress
from app.database.pool import Pool
from app.jobs.claims import Claims
from app.jobs.queue import Jobs
from app.mailboxes import store as mailboxes
from app.mailboxes.model import DirectoryState, DirectoryStatus, Mailbox
from app.messages import removal_store
from app.messages.reasons import Pace
from app.messages.registry import Registry
from app.messages.removal import Removal
from app.notifications import after_mail
from app.notifications import store as ledger
from app.notifications.announce import Announcer
from app.notifications.deliver import Mailer
from app.notifications.mail.compose import Composer
from app.notifications.mail.conversation import Limits
from app.notifications.mail.pool import SmtpTransport
from app.notifications.model import MailRetries, Notification, Recipient
from app.notifications.notices import digest_store as digests
from app.notifications.notices import store as notices
from app.notifications.notices.deliver import NoticeMailer
from app.notifications.notices.dropped import DroppedAddresses
from app.notifications.recordings import Recordings
from app.notifications.slots import Slots
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingStorage
from app.switch.mwi import Switch
from app.switch.tables.model import MessageRow
from tests.support.switch_rows import DOMAIN, insert, switch_row
from tests.support.switches import switch_with

AT_ONCE = Pace(settling=0.0, settling_with_copies=0.0, tell_again=0.0)
SOON = MailRetries(first=0.05, longest=0.1, lease=0.2, give_up_after=1.0, give_up_tries=5, unknown_pause=0.3)
QUICK = Limits(connect=1.0, greeting=1.0, command=1.0, mail=1.0, rcpt=1.0, data=1.0, block=0.5, termination=0.5, reset=1.0)


class MailProcess:
    """One process that mails. Several of them on one database are several processes."""

    def __init__(
        self,
        dsn: str,
        pool: Pool,
        recordings: Path,
        smtp_port: int,
        switch: Switch,
        *,
        retries: MailRetries = SOON,
        pace: Pace = AT_ONCE,
        limits: Limits = QUICK,
        connections: int = 5,
        slots: Slots | None = None,
        sender: str = "voicemail@lab.local",
        per_hour: int = 0,
        hour: float = 3600.0,
    ) -> None:
        self.switch = switch
        self.pool, self.recordings = pool, recordings
        self.storage = RecordingStorage(RecordingPaths(recordings, str(recordings)))
        self.jobs = Jobs(dsn)
        self.claims = Claims(dsn)
        self.transport = SmtpTransport(
            "127.0.0.1", smtp_port, sender="voicemail@lab.local", limits=limits, connections=connections
        )
        announcer = Announcer(self.jobs, mail_from="voicemail@lab.local", per_hour=per_hour, hour=hour)
        self.registry = Registry(pool, pool, self.storage, announcer.announce, max_age=86400)
        shared: dict[str, Any] = {
            "pool": pool, "jobs": self.jobs, "claims": self.claims, "retries": retries,
        }  # fmt: skip
        self.removal = Removal(switch=switch_with(switch, pool), storage=self.storage, pace=pace, **shared)
        self.removal.register(after_mail.REASON)
        self.mailer = Mailer(
            switch_pool=pool,
            recordings=Recordings(self.storage),
            removal=self.removal,
            transport=self.transport,
            composer=Composer(sender=sender),
            zone=ZoneInfo("Asia/Ho_Chi_Minh"),
            mail_from=sender,
            patience=2.0,
            slots=slots,
            second_look=0.1,
            **shared,
        )
        self.notices = NoticeMailer(
            transport=self.transport, zone=ZoneInfo("Asia/Ho_Chi_Minh"), mail_from=sender, patience=2.0, **shared
        )
        self.dropped = DroppedAddresses(self.jobs, mail_from=sender, settling=0.0)

    async def close(self) -> None:
        """Let go of the mail server and of every claim."""
        await self.mailer.close()
        await self.transport.close()
        await self.claims.close()

    async def begin(self) -> None:
        """What the first start does: from now on messages are news."""
        await self.registry.begin()
        await self.registry.finish_baseline()

    async def mailbox(self, extension: str = "101", **fields: Any) -> UUID:
        """A mailbox with these fields."""
        usual: dict[str, Any] = {
            "id": uuid4(), "address": MailboxAddress(Extension(extension), Domain(DOMAIN)), "sealed_pin": b"sealed",
            "mail_to": ("tech@example.com",), "local_after_email": False, "enabled": True, "description": "", "time_zone": None,
            "directory": DirectoryState(DirectoryStatus.APPLIED),
        }  # fmt: skip
        mailbox = Mailbox(**usual | fields)
        async with self.pool.acquire() as connection:
            assert await mailboxes.insert(connection, mailbox)
        return mailbox.id

    async def leave(self, content: bytes | None = b"RIFF....WAVE", **fields: Any) -> tuple[Path, UUID]:
        """A message that the intake has found: its file, and the id of its notification."""
        username = fields.get("username", "101")
        path = self.recordings / DOMAIN / username / f"msg_{uuid4()}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        row = switch_row(**{"file_path": str(path)} | fields)
        path = Path(row["file_path"])
        if content is not None:
            path.write_bytes(content)
        await insert(self.pool, row)
        recorded = await self.registry.record([row_of(row)])
        message = next(message for message in recorded if message.file_path == row["file_path"])
        found = await self.pool.fetchval("SELECT id FROM voicemail.notification WHERE message_id = $1", message.id)
        return path, UUID(int=found.int) if found else UUID(int=0)

    async def look(self, notification: UUID) -> tuple[Notification, list[Recipient]]:
        """The ledger's rows of one notification."""
        async with self.pool.acquire() as connection:
            message = await connection.fetchval("SELECT message_id FROM voicemail.notification WHERE id = $1", notification)
            found = await ledger.of_message(connection, message)
            assert found is not None
            return found, await ledger.recipients(connection, notification)

    async def remove(self, notification: UUID) -> None:
        """Go on with the removal of a notification's message, if one was asked for."""
        found = await self.pool.fetchval(
            """
            SELECT r.id FROM voicemail.removal r JOIN voicemail.notification n USING (message_id) WHERE n.id = $1
            """,
            notification,
        )
        if found is not None:
            await self.removal.remove(str(found))

    async def work(self, seconds: float = 10.0) -> None:
        """Do what is due, and what becomes due, until nothing is left."""
        async with asyncio.timeout(seconds):
            while await self.pool.fetchval(
                """
                SELECT EXISTS (SELECT FROM voicemail.notification WHERE state = 'queued')
                    OR EXISTS (SELECT FROM voicemail.removal WHERE state NOT IN ('deleted', 'kept'))
                    OR EXISTS (SELECT FROM voicemail.notice WHERE state = 'queued')
                    OR EXISTS (SELECT FROM voicemail.digest WHERE closed_at IS NULL)
                """
            ):
                async with self.pool.acquire() as connection:
                    mails = [found for found, _ in await ledger.due(connection, 100)]
                    removals = [found for found, _ in await removal_store.due(connection, 100)]
                    closing = [found for found, _ in await digests.due(connection, 100)]
                    words = [found for found, _ in await notices.due(connection, 100)]
                await asyncio.gather(
                    *(self.notices.close_digest(str(found)) for found in closing),
                    *(self.notices.deliver(str(found)) for found in words),
                    *(self.mailer.deliver(str(found)) for found in mails),
                    *(self.removal.remove(str(found)) for found in removals),
                )
                await asyncio.sleep(0.02)


def row_of(row: dict[str, Any]) -> MessageRow:
    """A row as the store reads it."""
    return MessageRow(
        row["domain"] or "", row["username"] or "", row["uuid"] or "", row["file_path"] or "", row["cid_name"] or "",
        row["cid_number"] or "", row["created_epoch"] or 0, row["read_epoch"] or 0, row["message_len"] or 0, row["flags"] or "",
    )  # fmt: skip
