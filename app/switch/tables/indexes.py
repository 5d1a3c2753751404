"""Indexes on the switch's table that make a page of messages cheap, and the question who else has a recording.

They are put there, and put back after mod_voicemail recreated its table.
They are not unique and constrain nothing, so the switch can neither fail on them nor notice them.
"""

import structlog

from app.database.pool import Connection, Pool
from app.errors import MissingRight
from app.jobs.loop import Loop
from app.jobs.retries import Retries

log = structlog.get_logger(__name__)

# What searches filter and sort by (search.py). No text of the switch makes these fail, and of a number the index has only the
# beginning: an entry of an index has its limit, which an INSERT of the switch must never meet.
READ = "least(greatest(coalesce(read_epoch, 0), 0), 1)"
LENGTH = "coalesce(message_len, 0)"
NUMBER = """coalesce("left"(cid_number, 32), '') COLLATE "C\""""

INDEXES = {
    "voicemail_msgs_api_mailbox": "(username, domain, created_epoch DESC NULLS LAST, uuid) INCLUDE (flags)",
    "voicemail_msgs_api_domain": "(domain, created_epoch DESC NULLS LAST, uuid) INCLUDE (flags)",
    "voicemail_msgs_api_file": "(file_path)",
    "voicemail_msgs_api_read": f"(domain, ({READ}), created_epoch DESC NULLS LAST)",
    "voicemail_msgs_api_saved": "(domain, created_epoch DESC NULLS LAST) WHERE flags = 'save'",
    "voicemail_msgs_api_urgent": "(domain, created_epoch DESC NULLS LAST) WHERE read_flags = 'A_URGENT'",
    "voicemail_msgs_api_duration": f"(domain, ({LENGTH}), created_epoch)",
    "voicemail_msgs_api_caller": f"(domain, ({NUMBER}), created_epoch DESC NULLS LAST)",
}
THERE = """
SELECT c.relname, i.indisvalid, EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass('voicemail_msgs') AND c.relname = ANY($1::text[])
"""
TABLE = "SELECT to_regclass('voicemail_msgs') IS NOT NULL"
_LONGEST = 3600.0  # seconds a build may take: it stops nobody


def statement(name: str) -> str:
    """What creates one of ``INDEXES`` without locking the switch out of its table."""
    return f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON voicemail_msgs {INDEXES[name]}"


class Indexes:
    """Runs in the process that leads. Without the right to create indexes it says so once, and lists are slower."""

    def __init__(self, switch_pool: Pool, *, every: float = 60.0) -> None:
        self._switch_pool = switch_pool
        self._every = every
        self._told: set[str] = set()

    async def run(self) -> None:
        """See that the indexes are there, now and then, until cancelled."""
        retries = Retries(first=self._every, longest=self._every)
        await Loop("message_indexes", self.ensure, every=self._every, retries=retries).run()

    async def ensure(self) -> None:
        """Create what is missing, without locking the switch out of its table."""
        async with self._switch_pool.acquire() as connection:
            if not await connection.fetchval(TABLE):
                return
            there = {name: (valid, building) for name, valid, building in await connection.fetch(THERE, list(INDEXES))}
            for name in INDEXES:
                valid, building = there.get(name, (False, False))
                if not valid and not building:
                    await self._create(connection, name, left_over=name in there)

    async def _create(self, connection: Connection, name: str, *, left_over: bool) -> None:
        try:
            if left_over:  # by a build that was broken off
                await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", timeout=_LONGEST)
            await connection.execute(statement(name), timeout=_LONGEST)
        except MissingRight:
            self._tell("message_index_not_allowed", "the database role does not own voicemail_msgs", to_do=statement(name))
        else:
            log.info("message_index_created", name=name)

    def _tell(self, event: str, reason: str, **facts: str) -> None:
        if (said := event + reason + "".join(facts.values())) not in self._told:
            self._told.add(said)
            log.warning(event, reason=reason, **facts)
