"""Many mails in flight and kill -9, again and again: what one crash can repeat, and how often."""

import random
import re
from collections import Counter
from pathlib import Path

from app.database.pool import Pool
from tests.support import killed_mails
from tests.support.children import run_script
from tests.support.mail_process import MailProcess
from tests.support.scripted_mail import ScriptedMail

MAILS, AT_ONCE, KILLS = 150, 10, 8
_LIFE, _ID = re.compile(r"From: Voicemail <life-(\d+)@"), re.compile(r"Message-ID: (\S+)")


async def test_a_crash_repeats_a_mail_once_and_no_more_mails_than_were_in_flight(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    received: list[tuple[str, int]] = []
    chance = random.Random(7)

    def take(mail: str) -> float:
        """The server has the mail from now on, whether or not anybody waits for its answer."""
        received.append((_found(_ID, mail), int(_found(_LIFE, mail))))
        return chance.uniform(0.0, 0.2)

    async with ScriptedMail() as server:
        server.replies["CONTENT"] = take
        mail_process = MailProcess(database, pool, tmp_path, server.port, None)  # type: ignore[arg-type]
        await mail_process.begin()
        await mail_process.mailbox(local_after_email=True)
        notifications = [(await mail_process.leave())[1] for _ in range(MAILS)]
        arguments = (database, str(tmp_path), str(server.port), str(AT_ONCE), str(KILLS))
        _, output = await run_script(killed_mails.__file__, *arguments)
        assert b"settled" in output, output.decode()[-2000:]

    sends = Counter(received)
    last = dict(sorted(received, key=lambda each: each[1]))
    repeats = Counter(life for message, life in sends if life < last[message])
    often = Counter(Counter(message for message, _ in sends).values())
    print("repeats by crash:", {life: repeats[life] for life in range(KILLS)}, "mails by how often they were sent:", dict(often))
    assert max(sends.values()) == 1, f"one process sent a mail twice: {[each for each in sends if sends[each] > 1]}"
    assert all(count <= AT_ONCE for count in repeats.values())
    assert set(repeats) <= set(range(KILLS))
    for notification in notifications:
        found, recipients = await mail_process.look(notification)
        times = len({life for message, life in received if message == found.mail_message_id})
        if found.state == "sent":
            assert times >= 1
            assert {recipient.state for recipient in recipients} == {"accepted"}
        else:
            assert (found.state, found.unknowns) == ("unknown", 4)
        assert times <= 4
    await mail_process.close()


def _found(pattern: re.Pattern[str], mail: str) -> str:
    found = pattern.search(mail)
    assert found is not None, mail[:500]
    return found[1]
