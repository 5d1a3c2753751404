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


# A mail that was interrupted after its content went is tried again half an hour later: that time passes here at once.
HALF_AN_HOUR_PASSES = "UPDATE voicemail.notification SET next_try_at = now() WHERE state = 'queued' AND unknowns > 0"


async def mailed(dsn: str, mail: MailCatcher, calls: dict[str, str], seconds: float) -> None:
    """Wait until each call was mailed, and see that each went where it belongs, with its own recording."""
    connection = await asyncpg.connect(dsn)
    # Where time runs out, what was not mailed is told below.
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while len({caught.parsed["Message-ID"] for caught in mail.messages}) < len(calls):
                await asyncio.sleep(1)
                await connection.execute(HALF_AN_HOUR_PASSES)
    await connection.close()
    subjects = {str(caught.parsed["Subject"]).split(" ")[2]: caught.recipients for caught in mail.messages}
    assert subjects == {name: (ADDRESSES[extension],) for name, extension in calls.items()}
    copies = Counter(caught.parsed["Message-ID"] for caught in mail.messages)
    assert len(copies) == len(calls)
    assert max(copies.values()) <= 2


async def call_again_and_again(site: Site, calls: dict[str, str], pause: float) -> None:
    """Callers who come whatever happens, and again where the switch could not write their row: it keeps only the file then."""
    for number in range(CALLS):
        extension, name = ("101", "102")[number % 2], f"caller{number}"
        while True:
            left = await site.switch.leave_message(extension, caller_name=name, talking=0.05)
            if left.stored:
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
            async with asyncio.timeout(30):
                while (await site.get("/v1/voicemail/message?extension=101"))["total"]:
                    await asyncio.sleep(0.2)
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

            # What was being mailed when its process died is left alone for the length of its lease.
            await mailed(database, mail, calls, 60)
            async with asyncio.timeout(60):
                while True:
                    async with client.get("/v1/voicemail/message?extension=101") as answer:
                        if (await answer.json())["total"] == 0:
                            break
                    await asyncio.sleep(0.2)
        assert len(list(switch.recordings.rglob("102/msg_*.wav"))) == CALLS // 2

        assert await process.stop() == 0
    finally:
        await process.kill()
        await mail.stop()
        await switch.stop()
