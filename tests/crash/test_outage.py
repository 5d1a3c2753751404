"""Database, switch, mail server and the service itself restarted under load: every message is mailed, none to the wrong place."""

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path

import aiohttp
import asyncpg

from app.embedded.postgres import EmbeddedPostgres
from app.sandbox.mail import MailCatcher
from tests.support.pbx import TOKEN, Site, stand_in
from tests.support.service_process import ServiceProcess

ADDRESSES = {"101": "tech@example.com", "102": "sales@example.com"}
CALLS = 24

# A mail that was interrupted after its content went is tried again half an hour later, and what a process that died had begun
# is left alone for its lease: that time passes here at once.
TIME_PASSES = """
WITH mails AS (UPDATE voicemail.notification SET next_try_at = now() WHERE state = 'queued' AND (unknowns > 0 OR attempts > 0))
UPDATE voicemail.removal SET next_try_at = now() WHERE state NOT IN ('deleted', 'kept') AND tries > 0
"""

# A mail that was caught is not settled if the process died, or the database went, before it was noted.
UNSETTLED = f"SELECT (SELECT count(*) FROM voicemail.notification) < {CALLS} OR EXISTS (SELECT FROM voicemail.notification WHERE state = 'queued')"

UNREMOVED = "SELECT EXISTS (SELECT FROM voicemail.removal WHERE state NOT IN ('deleted', 'kept'))"


async def passing(dsn: str, unfinished: str, seconds: float) -> None:
    """Let time pass until nothing is unfinished. Raises ``TimeoutError``."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(seconds):
            while await connection.fetchval(unfinished):
                await asyncio.sleep(0.5)
                await connection.execute(TIME_PASSES)
    finally:
        connection.terminate()


async def mailed(dsn: str, mail: MailCatcher, calls: dict[str, str], seconds: float) -> None:
    """Wait until each call was mailed, and see that each went where it belongs, with its own recording."""
    # Where time runs out, what was not mailed is told below.
    with suppress(TimeoutError):
        await passing(dsn, UNSETTLED, seconds)
    subjects = {str(caught.parsed["Subject"]).split(" ")[2]: caught.recipients for caught in mail.messages}
    assert subjects == {name: (ADDRESSES[extension],) for name, extension in calls.items()}
    copies = Counter(caught.parsed["Message-ID"] for caught in mail.messages)
    assert len(copies) == len(calls)
    assert max(copies.values()) <= 2


async def row_came(dsn: str, file_path: str) -> bool:
    """Whether a row whose INSERT had no answer, as the server went down, was committed all the same."""
    async with asyncio.timeout(60):
        while True:
            try:
                connection = await asyncpg.connect(dsn)
                break
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.1)
    try:
        known = (
            "SELECT count(*) FROM voicemail_msgs WHERE file_path = $1",
            "SELECT count(*) FROM voicemail.message WHERE file_path = $1",
        )
        return any([await connection.fetchval(statement, file_path) for statement in known])
    finally:
        connection.terminate()


async def call_again_and_again(site: Site, calls: dict[str, str], pause: float) -> None:
    """Callers who come whatever happens, and again if the switch could not write their row: it keeps only the file then."""
    for number in range(CALLS):
        extension, name = ("101", "102")[number % 2], f"caller{number}"
        while True:
            left = await site.switch.leave_message(extension, caller_name=name, talking=0.05)
            if left.stored or await row_came(site.dsn, str(left.path)):
                calls[name] = extension
                break
            left.path.unlink()
            await asyncio.sleep(0.2)
        await asyncio.sleep(pause)


async def test_each_of_the_three_is_restarted_under_load(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres")
    async with postgres as dsn:
        site = Site(dsn, tmp_path, stand_in(dsn, tmp_path))
        await site.open()
        try:
            await site.create("101", mail_to=ADDRESSES["101"], local_after_email=False)
            await site.create("102", mail_to=ADDRESSES["102"])
            calls: dict[str, str] = {}
            calling = asyncio.ensure_future(call_again_and_again(site, calls, 0.2))
            for _ in range(2):
                await asyncio.sleep(0.4)
                await site.mail.stop()
                await asyncio.sleep(0.6)
                await site.mail.start()
                await asyncio.sleep(0.4)
                await site.switch.drop_connections()  # type: ignore[attr-defined]
                await asyncio.sleep(0.4)
                await postgres.stop()
                await asyncio.sleep(0.5)
                await postgres.start()
            await calling

            await mailed(dsn, site.mail, calls, 60)
            kept = set(site.switch.recordings.rglob("102/msg_*.wav"))
            assert len(kept) == CALLS // 2
            await passing(dsn, UNREMOVED, 60)
            assert (await site.get("/v1/voicemail/message?extension=101"))["total"] == 0
            assert (await site.get("/v1/voicemail/message?extension=102"))["total"] == CALLS // 2
        finally:
            await site.close()


async def test_a_service_that_is_killed_again_and_again_mails_every_message(
    database: str, tmp_path: Path, unused_port: int
) -> None:
    switch, mail = stand_in(database, tmp_path), MailCatcher()
    await switch.start()
    await mail.start()
    site = Site(database, tmp_path, switch)
    site.mail = mail
    environment = site.environment(http_port=unused_port)
    url = f"http://127.0.0.1:{unused_port}"

    async def serve() -> ServiceProcess:
        return await ServiceProcess.start(environment, tmp_path, unused_port)

    process = await serve()
    try:
        async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            for extension, address in ADDRESSES.items():
                body = {
                    "extension": extension,
                    "password": "1",
                    "enabled": True,
                    "mail_to": address,
                    "local_after_email": extension == "102",
                }
                async with client.post("/v1/voicemail", json=body) as answer:
                    assert answer.status == 201
            calls: dict[str, str] = {}
            calling = asyncio.ensure_future(call_again_and_again(site, calls, 0.1))
            for pause in (0.35, 0.2, 0.6):
                await asyncio.sleep(pause)
                await process.kill()
                process = await serve()
            await calling

            await mailed(database, mail, calls, 60)
            await passing(database, UNREMOVED, 60)
            async with client.get("/v1/voicemail/message?extension=101") as answer:
                assert (await answer.json())["total"] == 0
        assert len(list(switch.recordings.rglob("102/msg_*.wav"))) == CALLS // 2

        assert await process.stop() == 0
    finally:
        await process.kill()
        await mail.stop()
        await switch.stop()
