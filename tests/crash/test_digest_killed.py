"""A digest that is killed -9 between any two steps goes all the same, and its recordings stay."""

import json
from collections import Counter
from pathlib import Path

from app.sandbox.mail import MailCatcher
from tests.support import killed_digest
from tests.support.children import run_script
from tests.support.killed_digest import STRIDE


async def test_killed_before_any_step_the_next_process_sends_the_digest(database: str, tmp_path: Path) -> None:
    mail = MailCatcher()
    await mail.start()
    try:
        status, output = await run_script(killed_digest.__file__, database, str(tmp_path), str(mail.port))
    finally:
        await mail.stop()

    rounds = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
    assert status == 0
    assert [each["killed"] for each in rounds] == [True] * (len(rounds) - 1) + [False]
    assert len(rounds) > 8
    mails = Counter(caught.parsed["Message-ID"] for caught in mail.messages if "more voicemails" in caught.parsed["Subject"])
    for each in rounds:
        assert (each["state"], each["notices"]) == ("sent", 1), each
        assert (each["files"], each["rows"]) == (3, 3), each
        assert mails[each["mail"]] in (1, 2), each
    assert set(mails) == {each["mail"] for each in rounds}
    # Only what was killed between the server's word and the commit of its note goes twice: steps that follow one another.
    twice = [each["step"] for each in rounds if mails[each["mail"]] == 2]
    assert twice == list(range(twice[0], twice[0] + STRIDE * len(twice), STRIDE))
    assert len(twice) <= 4
