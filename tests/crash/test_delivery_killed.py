"""A delivery that is killed -9 between any two steps: nothing is lost, nothing deleted early, at most one mail comes twice."""

import json
from collections import Counter
from pathlib import Path

import pytest

from app.database.pool import Pool
from app.sandbox.mail import MailCatcher
from tests.support import killed_delivery
from tests.support.children import run_script
from tests.support.mail_process import MailProcess
from tests.support.pbx import stand_in


@pytest.mark.parametrize(("kind", "steps"), [("alone", 25), ("shared", 25)])
async def test_killed_before_any_step_the_next_process_does_the_rest(
    database: str, pool: Pool, tmp_path: Path, kind: str, steps: int
) -> None:
    switch, mail = stand_in(database, tmp_path), MailCatcher()
    for extension in ("101", "102"):
        (switch.directory / f"{extension}.xml").write_text(f'<include><user id="{extension}"/></include>')
    await switch.start()
    await mail.start()
    (switch.recordings / "other.wav").write_bytes(b"RIFFother")
    await MailProcess(database, pool, switch.recordings, mail.port, None).mailbox()  # type: ignore[arg-type]
    arguments = (database, str(switch.recordings), str(mail.port), str(switch.port), switch.password, kind)
    try:
        status, output = await run_script(killed_delivery.__file__, *arguments)
    finally:
        await mail.stop()
        await switch.stop()

    rounds = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
    assert status == 0
    assert [each["killed"] for each in rounds] == [True] * (len(rounds) - 1) + [False]
    assert len(rounds) > steps
    mails = Counter(caught.parsed["Message-ID"] for caught in mail.messages)
    for number, each in enumerate(rounds, 1):
        found, made = each["found"], each["made"]
        # Deleting is last: while anything is missing of the message, its mail was accepted, and the ledger says so.
        assert (found["file"] and found["rows"]) or (found["state"] == "sent" and found["accepted"]), each
        # "deleted" is written only after MWI was sent, by whichever process came that far.
        assert (made["state"], made["recording"], made["removal"]) == ("sent", "deleted", "deleted"), each
        assert (made["file"], made["rows"]) == (False, 0), each
        assert made["others"] == (number if kind == "shared" else 0)
        assert mails[made["mail"]] in (1, 2), each
    assert set(mails) == {each["made"]["mail"] for each in rounds}
    # Only what was killed between the server's word and the commit of its note goes twice: steps that follow one another.
    twice = [each["step"] for each in rounds if mails[each["made"]["mail"]] == 2]
    assert twice == list(range(twice[0], twice[0] + len(twice)))
    assert len(twice) < len(rounds) / 2
    assert all(rounds[step - 1]["found"]["unknown"] for step in twice), "the ledger knew that the mail may have arrived"
    assert (switch.recordings / "other.wav").exists()
