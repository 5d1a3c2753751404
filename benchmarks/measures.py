"""What is measured. Each function prints its line and returns the number that is aimed at something, or None."""

import asyncio
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from uuid import uuid4

import aiosmtplib
import asyncpg

from app.database.pool import open_pool
from app.recordings.index import RecordingIndex
from app.recordings.paths import RecordingPaths
from app.recordings.storage import RecordingStorage
from app.switch.tables.indexes import INDEXES
from benchmarks.load import requests_a_second
from benchmarks.site import CHECKOUT, DOMAIN, TOKEN, Site, peer

SAMPLE = next((CHECKOUT / "app/sandbox/recordings").glob("*.wav"))
MAILBOXES, MESSAGES = 1000, 1000
FILES = 50_000
MAILS = 300
ROUNDS = 40  # of a quarter of a second for each
COMMITS = 200  # a second
CONNECTIONS = 10  # of the service to the mail server

# A tenth is unread, one in 200 is saved, one in 300 is urgent; 10,000 callers.
FILL = """
INSERT INTO voicemail_msgs
SELECT floor(extract(epoch FROM now()))::int - 3600 - (n * $2 + m) * 30, CASE WHEN n % 10 = 0 THEN 0 ELSE 1 END, (10000 + m)::text, $1,
    gen_random_uuid(), 'Alice ' || (n * 7919 + m * 31) % 10000, '089' || lpad(((n * 7919 + m * 31) % 10000)::text, 7, '0'), 'inbox',
    '/nowhere/' || m || '/msg_' || n || '.wav', 3 + (n * 37 + m * 11) % 180, CASE WHEN (n + m) % 200 = 0 THEN 'save' ELSE '' END,
    CASE WHEN (n * 3 + m) % 300 = 0 THEN 'A_URGENT' ELSE 'B_NORMAL' END, ''
FROM generate_series(0, $2 - 1) AS m, generate_series(0, $3 - 1) AS n
ORDER BY n DESC, m DESC
"""


def say(text: str) -> None:
    """A line for the reader."""
    print(text, flush=True)


def percentiles(seconds: Sequence[float]) -> str:
    """p50 and p99 in words."""
    ordered = sorted(seconds)
    return (
        f"p50 {statistics.median(ordered) * 1000:.0f} ms, p99 {ordered[int(len(ordered) * 0.99)] * 1000:.0f} ms of {len(ordered)}"
    )


async def fill(site: Site) -> None:
    """A million messages of a year that were there before the service."""
    began = time.monotonic()
    async with site.database() as connection:
        await connection.execute(FILL, DOMAIN, MAILBOXES, MESSAGES)
        await connection.execute("ANALYZE voicemail_msgs")
    say(f"{MAILBOXES * MESSAGES:,} messages written to voicemail_msgs in {time.monotonic() - began:.1f} s")


async def first_start(site: Site) -> None:
    """The service's first look at a living switch."""
    began = time.monotonic()
    ready = await site.start()
    async with site.database() as connection:
        while not await connection.fetchval("SELECT count(*) FROM voicemail.installation WHERE name = 'baseline_done_at'"):
            seen = await connection.fetchval("SELECT reltuples::bigint FROM pg_class WHERE oid = 'voicemail.message'::regclass")
            if int(time.monotonic() - began) % 10 == 9:
                say(f"  … about {max(seen, 0):,} messages recorded after {time.monotonic() - began:.0f} s")
            await asyncio.sleep(1)
        while await connection.fetchval("SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'voicemail_msgs_api_%'") < len(
            INDEXES
        ):
            await asyncio.sleep(1)
        took = time.monotonic() - began
        await connection.execute("VACUUM ANALYZE")
    say(f"first start: ready after {ready:.2f} s, all {MAILBOXES * MESSAGES:,} messages recorded after {took:.0f} s")
    say(f"memory at rest: {site.memory():.0f} MiB")


async def listing(site: Site) -> float:
    """50 messages of a mailbox, against the plainest handlers that do the same, while another client commits 200 times a second.

    The service checks a token and writes a log line; the handlers do neither. Turn by turn in short rounds, so that all meet the same
    machine; a ratio is the median of the rounds' ratios. Returns that against the handler whose pool resets no connection.
    """
    paths = [f"/v1/voicemail/message?extension={10000 + random.randrange(MAILBOXES)}&limit=50" for _ in range(200)]
    token = await site.token("bench")
    async with peer("list", site.dsn, DOMAIN) as plain, peer("list-without-reset", site.dsn, DOMAIN) as lean, committing(site):
        turns = {
            "plain": (plain.port, TOKEN), "lean": (lean.port, TOKEN), "ours": (site.port, TOKEN), "stored token": (site.port, token),
        }  # fmt: skip
        rates: dict[str, list[float]] = {name: [] for name in turns}
        for number in range(ROUNDS + 1):
            for name in sorted(turns, reverse=number % 2 == 0):
                rates[name].append(await requests_a_second(turns[name][0], paths, token=turns[name][1], seconds=0.25))

    def ratio(ours: str, theirs: str) -> float:
        # The first round warms up.
        return statistics.median(a / b for a, b in zip(rates[ours][1:], rates[theirs][1:], strict=True))

    middle = {name: statistics.median(found[1:]) for name, found in rates.items()}
    say(
        f"list of 50 messages while another client commits {COMMITS} times a second: {middle['ours']:,.0f}/s; "
        f"the plainest handler {middle['plain']:,.0f}/s: ratio {ratio('ours', 'plain'):.2f}; "
        f"the same with a pool that resets no connection {middle['lean']:,.0f}/s: ratio {ratio('ours', 'lean'):.2f} (aim 0.80); "
        f"memory {site.memory():.0f} MiB"
    )
    say(
        f"the same with a token of the database instead of VOICEMAIL_API_TOKEN: ratio {ratio('stored token', 'plain'):.2f} "
        f"and {ratio('stored token', 'lean'):.2f}"
    )
    return ratio("ours", "lean")


# Of the whole domain of a million messages, and of one mailbox of a thousand; {n} is another number each time.
FILTERS: dict[str, str] = {
    "no filter, of a mailbox": "extension={m}",
    "extension (5 of them)": "extension={m},{m1},{m2},{m3},{m4}",
    "read=true": "read=true",
    "read=false": "read=false",
    "saved=true": "saved=true",
    "saved=false": "saved=false",
    "urgent=true": "urgent=true",
    "since, of a day": "since={day}",
    "until, of the oldest day": "until={old}",
    "caller, a whole number": "caller=089{n:07}",
    "caller, the beginning of many numbers": "caller=08900",
    "min_duration, of few": "min_duration=182",
    "min_duration, of many": "min_duration=60",
    "max_duration, of few": "max_duration=3",
    "sort=created_at": "sort=created_at",
    "sort=-duration": "sort=-duration",
    "sort=caller": "sort=caller",
    "a cursor": "sort=-duration&cursor={cursor}",
    "all filters together, of a mailbox": "extension={m}&read=true&saved=false&min_duration=9&caller=alice",
    "caller, a part of a name, of a mailbox": "extension={m}&caller=lice%20{n}",
    "caller, a part of a name that many have": "caller=lice",
    "caller, a part of a name that few have": "caller=lice%20{n:04}",
}
_SLOW = "caller, a part of a name that few have"  # has no index; it is reported, and not aimed at


async def filters(site: Site) -> float:
    """Each filter of the list of messages, one request after the other. Returns the worst p99 of those that are aimed at."""
    worst = 0.0
    cursor = ""
    async with site.client.get("/v1/voicemail/message?sort=-duration") as answer:
        cursor = (await answer.json())["next"]
    for name, query in FILTERS.items():
        took = []
        for _ in range(20 if name == _SLOW else 200):
            m, now = random.randrange(MAILBOXES - 4), time.time()
            values: dict[str, object] = {"m": 10000 + m, "n": random.randrange(10000), "cursor": cursor}
            values |= {f"m{other}": 10000 + m + other for other in range(1, 5)}
            values["day"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 86400))
            values["old"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - (MAILBOXES * MESSAGES - 2880) * 30))
            began = time.monotonic()
            async with site.client.get(f"/v1/voicemail/message?{query.format(**values)}") as answer:
                if answer.status != 200:
                    raise RuntimeError(await answer.text())
                await answer.read()
            took.append(time.monotonic() - began)
        p99 = sorted(took)[int(len(took) * 0.99)]
        say(f"  {name}: {percentiles(took)}")
        if name != _SLOW:
            worst = max(worst, p99)
    say(f"filters on {MAILBOXES * MESSAGES:,} messages: the worst p99 is {worst * 1000:.0f} ms (aim 50 ms)")
    return worst


@asynccontextmanager
async def committing(site: Site) -> AsyncIterator[None]:
    """Another client that commits a row, which has nothing to do with lists, 200 times a second."""
    async with site.database() as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS benchmark_commits (at timestamptz)")

        async def commit() -> None:
            due = time.monotonic()
            while True:
                await connection.execute("INSERT INTO benchmark_commits VALUES (now())")
                due += 1 / COMMITS
                await asyncio.sleep(max(0.0, due - time.monotonic()))

        task = asyncio.ensure_future(commit())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def writing(site: Site) -> None:
    """From a mailbox's POST to its being in the switch, which the answer says."""
    took = []
    for number in range(100):
        began = time.monotonic()
        state = await site.create(str(20000 + number))
        if state != "applied":
            raise RuntimeError(f"the switch has not taken mailbox {20000 + number}: {state}")
        took.append(time.monotonic() - began)
    began = time.monotonic()
    states = await asyncio.gather(*(site.create(str(21000 + number)) for number in range(500)))
    together = time.monotonic() - began
    applied = sum(state == "applied" for state in states)
    say(
        f"mailbox write to visible in the switch: {percentiles(took)}; 500 at once in {together:.2f} s ({applied} applied at once), "
        f"{site.switch.reloads} reloads in all; memory {site.memory():.0f} MiB"
    )


async def _leave(connection: "asyncpg.Connection", folder: Path, names: Sequence[str]) -> None:
    """Rows and files as a switch leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    content = SAMPLE.read_bytes()
    rows = []
    for name in names:
        path = folder / f"msg_{uuid4()}.wav"
        path.write_bytes(content)
        rows.append((int(time.time()), 0, "101", DOMAIN, str(uuid4()), name, "089", "inbox", str(path), 18, "", "B_NORMAL", ""))
    await connection.copy_records_to_table("voicemail_msgs", records=rows)


async def latency(site: Site) -> float:
    """From the end of a recording to its mail's acceptance; a call every 150 ms."""
    await site.create("101", mail_to="tech@example.com")
    left: dict[str, float] = {}
    took = []

    async def calls() -> None:
        for number in range(60):
            name = f"latency{number}x"
            await site.switch.leave_message("101", caller_name=name, talking=0.05)
            left[name] = time.monotonic()
            await asyncio.sleep(0.15)

    calling = asyncio.ensure_future(calls())
    arrived: dict[str, float] = {}
    while len(arrived) < 60:
        at, subject = (await site.mail.line()).split(" ", 1)
        arrived[subject.split(" from ")[1].split(" ")[0]] = float(at)
    await calling
    took = [arrived[name] - left[name] for name in left]
    median = statistics.median(took)
    say(f"row to mail accepted: {percentiles(took)} (aim 300 ms); memory {site.memory():.0f} MiB")
    return median


async def mail_rate(site: Site) -> float:
    """Mails a second, against a bare aiosmtplib loop that sends as many of the same size over as many connections."""
    rounds = []
    for number in range(3):
        theirs = await _bare_rate(site)
        async with site.database() as connection:
            names = [f"rate{number}-{mail}x" for mail in range(MAILS)]
            # The files first: what is measured is the mails, not the disk.
            began = time.monotonic()
            await _leave(connection, site.switch.recordings / DOMAIN / "101", names)
            written = time.monotonic()
            # A hint, as the switch gives one.
            await site.switch.leave_message("101", caller_name=f"last{number}x", talking=0.01)
        last = 0.0
        for _ in range(MAILS + 1):
            last = float((await site.mail.line()).split(" ", 1)[0])
        rounds.append(((MAILS + 1) / (last - written), theirs))
        assert written > began
        await asyncio.sleep(1)
    ours, bare = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    say(
        f"mails of {SAMPLE.stat().st_size * 4 / 3 / 1024:.0f} KiB: {ours:.0f}/s, bare aiosmtplib loop {bare:.0f}/s: ratio {ours / bare:.2f} (aim 0.70); "
        f"memory {site.memory():.0f} MiB"
    )
    return ours / bare


async def _bare_rate(site: Site) -> float:
    content = SAMPLE.read_bytes()
    left = iter(range(MAILS))

    async def connection() -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=site.mail.port, start_tls=False) as client:
            for number in left:
                mail = EmailMessage()
                mail["From"], mail["To"], mail["Subject"] = (
                    f"voicemail@{DOMAIN}",
                    "tech@example.com",
                    f"Voicemail from bare{number}x (089), 0:18",
                )
                mail.set_content("A message.")
                mail.add_attachment(content, maintype="audio", subtype="wav", filename="message.wav")
                await client.sendmail(f"voicemail@{DOMAIN}", ["tech@example.com"], mail.as_bytes())

    began = time.monotonic()
    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    took = time.monotonic() - began
    for _ in range(MAILS):
        await site.mail.line()
    return MAILS / took


async def indexing(site: Site) -> None:
    """50,000 recordings, against a walk that only looks at each."""
    root = site.folder / "many"
    header = SAMPLE.read_bytes()[:4096]
    for mailbox in range(500):
        folder = root / DOMAIN / str(mailbox)
        folder.mkdir(parents=True)
        for number in range(FILES // 500):
            path = folder / f"msg_{number}.wav"
            path.write_bytes(header)
            os.utime(path, (0, 1_700_000_000))  # a younger file would be left alone: it may still grow
    pool = await open_pool(site.dsn, application_name="benchmark")
    index = RecordingIndex(pool, RecordingStorage(RecordingPaths(root, str(root))))
    began = time.monotonic()
    seen = sum(1 for _ in _walk(root))
    walk = time.monotonic() - began
    began = time.monotonic()
    await index.scan()
    first = time.monotonic() - began
    began = time.monotonic()
    await index.scan()
    again = time.monotonic() - began
    indexed = await pool.fetchval("SELECT count(*) FROM voicemail.recording")
    await pool.close()
    if seen != FILES or indexed < FILES:
        raise RuntimeError(f"{seen} files seen, {indexed} indexed")
    say(
        f"indexing {FILES:,} files: {first:.1f} s (size, duration, codec, SHA-256), {first / walk:.0f} times a bare scandir+stat walk ({walk:.2f} s); "
        f"again, nothing changed: {again:.1f} s, {again / walk:.1f} times"
    )


def _walk(folder: Path) -> "list[os.stat_result]":
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found += _walk(Path(entry.path))
            else:
                found.append(entry.stat(follow_symlinks=False))
    return found
