"""A revoked token is refused by every copy of the service: at once while changes are heard of, within five seconds while not."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from app.access import credentials, store
from app.access.authenticator import Authenticator
from app.access.cache import WITH_NEWS, WITHOUT_NEWS, GrantCache
from app.access.changes import TokenChanges
from app.access.limits import FailureLimit
from app.access.tokens import Tokens
from app.access.usage import TokenUsage
from app.database.migrations import migrate
from app.database.pool import Pool, open_pool
from app.embedded.postgres import EmbeddedPostgres
from app.errors import DatabaseUnavailable, InvalidToken
from tests.support.access_tokens import LAB, OPERATOR, make_token, revoke_token
from tests.support.pbx import PATIENCE, Site
from tests.support.service_process import ServiceProcess

LISTENERS = "FROM pg_stat_activity WHERE application_name = 'voicemail token_listener' AND datname = current_database()"
SOON = WITHOUT_NEWS - 1.0  # far below the time for which a grant is cached while changes are heard of


class Copy:
    """The part of one copy of the service that checks tokens."""

    def __init__(self, dsn: str, pool: Pool) -> None:
        self.cache = GrantCache()
        self.changes = TokenChanges(dsn, self.cache)

        async def write(_used: object) -> None: ...

        self.authenticator = Authenticator(
            Tokens(pool, LAB).find,
            self.cache,
            TokenUsage(write),
            failures=FailureLimit(1000),
            static_token=None,
            default_domain=LAB,
        )

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen for the block."""
        task = asyncio.create_task(self.changes.run())
        try:
            await self.until(True)
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def until(self, hearing: bool) -> None:
        """Wait until changes are heard of, or not."""
        async with asyncio.timeout(PATIENCE):
            while self.cache._hearing != hearing:
                await asyncio.sleep(0.01)

    async def works(self, text: str) -> bool:
        """Whether a token is let in."""
        try:
            await self.authenticator.grant(f"Bearer {text}", "192.0.2.1")
        except InvalidToken:
            return False
        return True

    async def refused_after(self, text: str) -> float:
        """The seconds until the token is refused."""
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            while await self.works(text):
                await asyncio.sleep(0.01)
        return time.monotonic() - began


async def test_every_copy_hears_of_a_revocation(database: str, pool: Pool) -> None:
    copies = [Copy(database, pool) for _ in range(3)]
    text, other = await make_token(database, "gone"), await make_token(database, "stays")
    async with contextlib.AsyncExitStack() as stack:
        for copy in copies:
            await stack.enter_async_context(copy.listening())
            assert await copy.works(text)
            assert await copy.works(other)

        await revoke_token(database, "gone")

        assert max([await copy.refused_after(text) for copy in copies]) < SOON
        assert all([await copy.works(other) for copy in copies])
    assert WITH_NEWS > SOON


async def test_without_a_listener_a_revoked_token_is_refused_within_five_seconds(database: str, pool: Pool) -> None:
    copy = Copy(database, pool)
    text = await make_token(database, "gone")
    assert await copy.works(text)

    await revoke_token(database, "gone")

    assert await copy.works(text)  # known, and nobody told this copy
    assert await copy.refused_after(text) < WITHOUT_NEWS + 3


async def test_a_revocation_while_the_listener_was_away_is_obeyed_as_soon_as_the_loss_is_noticed(
    database: str, pool: Pool
) -> None:
    copy = Copy(database, pool)
    text, later = await make_token(database, "gone"), await make_token(database, "later")
    async with copy.listening():
        for known in (text, later):
            assert await copy.works(known)

        async with pool.acquire() as connection, connection.transaction():
            # Both at once: the copy cannot hear of this revocation.
            await connection.fetchval(f"SELECT count(pg_terminate_backend(pid)) {LISTENERS}")
            await connection.execute("DELETE FROM voicemail.api_token WHERE name = 'gone'")
        assert await copy.refused_after(text) < WITHOUT_NEWS

        await copy.until(True)  # the listener is back
        assert await pool.fetchval(f"SELECT count(*) {LISTENERS}") == 1
        assert await copy.works(later)
        await revoke_token(database, "later")
        assert await copy.refused_after(later) < SOON


async def test_after_a_restart_of_the_database_revocations_are_heard_of_again(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres")
    async with postgres as dsn:
        await migrate(dsn)
        pool = await open_pool(dsn, application_name="test")
        copy = Copy(dsn, pool)
        text = await make_token(dsn, "gone")
        async with copy.listening():
            assert await copy.works(text)
            await postgres.stop()
            await copy.until(False)
            with pytest.raises(DatabaseUnavailable):
                await copy.works(text)  # nothing is let in on an old word

            await postgres.start()
            await copy.until(True)
            assert await copy.works(text)
            await revoke_token(dsn, "gone")
            assert await copy.refused_after(text) < SOON
        pool.terminate()


async def test_a_rotation_reaches_every_copy(database: str, pool: Pool) -> None:
    copy = Copy(database, pool)
    old = await make_token(database, "rotated")
    async with copy.listening():
        assert await copy.works(old)

        await Tokens(pool, LAB).rotate(OPERATOR, "rotated", overlap=timedelta())

        assert await copy.refused_after(old) < SOON


async def test_a_database_that_is_away_is_waited_for_and_logged_once(unused_port: int) -> None:
    cache = GrantCache()
    with capture_logs() as lines:
        task = asyncio.create_task(TokenChanges(f"postgresql://nobody:secret@127.0.0.1:{unused_port}/x", cache).run())
        await asyncio.sleep(1.5)
        task.cancel()
        await asyncio.wait({task})

    assert [line["event"] for line in lines] == ["token_listener_interrupted"]
    assert "secret" not in str(lines)


async def test_uses_by_several_copies_are_one_write_a_minute(database: str, pool: Pool) -> None:
    text = await make_token(database, "busy")
    await pool.execute(
        """
        CREATE TABLE writes (at timestamptz);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO writes VALUES (new.last_used_at); RETURN new; END';
        CREATE TRIGGER noted AFTER UPDATE OF last_used_at ON voicemail.api_token_secret FOR EACH ROW EXECUTE FUNCTION note();
        """
    )
    now = 1_800_000_000.0
    for seconds in (0, 20, 59, 61):
        for _copy in range(3):
            usage = TokenUsage(lambda used: store.note_use(pool, used), lambda at=now + seconds: at)  # type: ignore[misc]
            usage.note(credentials.digest(text))
            await usage.flush()

    assert await pool.fetchval("SELECT count(*) FROM writes") == 2


@pytest.fixture
async def second_service(stand_in_site: Site, unused_port: int) -> AsyncIterator[aiohttp.ClientSession]:
    """Another copy of the service, in a process of its own, on the same database."""
    site = stand_in_site
    process = await ServiceProcess.start(site.environment(http_port=unused_port), site.folder, unused_port, status="")
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{unused_port}") as client:
            yield client
    finally:
        await process.kill()


async def test_two_services_refuse_a_revoked_token_also_after_their_listeners_were_lost(
    stand_in_site: Site, second_service: aiohttp.ClientSession
) -> None:
    dsn = stand_in_site.dsn
    pool = await open_pool(dsn, application_name="test")

    async def works(client: aiohttp.ClientSession, text: str) -> bool:
        async with client.get("/v1/voicemail", headers={"Authorization": f"Bearer {text}"}) as answer:
            return answer.status == 200

    async def listeners(number: int) -> None:
        async with asyncio.timeout(PATIENCE):
            # What a connection asked last says whether it listens by now.
            while await pool.fetchval(f"SELECT count(*) {LISTENERS} AND query ~ '^(LISTEN|SELECT 1)'") != number:
                await asyncio.sleep(0.05)

    for name in ("first", "after-the-loss"):
        await listeners(2)
        text = await make_token(dsn, name)
        for client in (stand_in_site.client, second_service):
            assert await works(client, text)
        await revoke_token(dsn, name)
        async with asyncio.timeout(SOON):
            for client in (stand_in_site.client, second_service):
                while await works(client, text):
                    await asyncio.sleep(0.02)
        assert await pool.fetchval(f"SELECT count(pg_terminate_backend(pid)) {LISTENERS}") == 2
    pool.terminate()
