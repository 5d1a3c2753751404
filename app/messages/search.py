"""Messages by filters, in any order, from a cursor on."""

import asyncio
from dataclasses import dataclass

from app.access.grant import Grant
from app.addressing import Extension
from app.database.pool import Pool
from app.database.readers import Readers
from app.errors import Invalid, NotFound, UnfitValue
from app.messages import pages
from app.messages import store as records
from app.messages.cursors import key_in, wrong
from app.messages.pages import Lines
from app.messages.service import Messages
from app.switch.tables import search
from app.switch.tables.search import Search, Sort

_NO_DOMAIN = "there is no such domain"
_AT_ONCE = 4  # searches: a part of a name may take a second, and the intake needs connections of the same pool


@dataclass(frozen=True, slots=True)
class Filter:
    """What a caller asks for; None: whatever it is."""

    extensions: tuple[Extension, ...] = ()
    read: bool | None = None
    saved: bool | None = None
    urgent: bool | None = None
    since: int | None = None  # seconds since 1970
    until: int | None = None  # not included
    caller: str | None = None
    min_duration: int | None = None
    max_duration: int | None = None


_EVERYTHING = Filter()


class MessageSearch:
    """Finds messages. The plain list of a domain or a mailbox goes its own, shorter way."""

    def __init__(self, readers: Readers, switch_readers: Readers, switch_pool: Pool, messages: Messages) -> None:
        self._readers = readers
        self._switch_readers = switch_readers
        self._switch_pool = switch_pool
        self._messages = messages
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def page(
        self,
        grant: Grant,
        wanted: Filter = _EVERYTHING,
        *,
        domain: str | None = None,
        sort: Sort = Sort.NEWEST,
        cursor: str | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> Lines:
        """Messages of ``domain`` (``*``: of all the grant's domains), or of the grant's default one.

        Raises ``NotFound`` for a domain, and ``Invalid`` for a cursor that is none.
        """
        if cursor and offset:
            raise Invalid.field("offset", "must be 0 or left out beside a cursor")
        after = key_in(cursor, sort) if cursor else None
        alone = wanted.extensions[0] if len(wanted.extensions) == 1 else None
        if after is None and sort is Sort.NEWEST and wanted in (_EVERYTHING, Filter(extensions=wanted.extensions[:1])):
            return await self._messages.page(grant, alone, domain=domain, limit=limit, offset=offset)
        reach = grant.reach(domain, alone, absent=_NO_DOMAIN)
        extensions: tuple[str, ...] = wanted.extensions
        if reach.extension is not None:  # the grant may be for one mailbox only
            extensions = (reach.extension,) if not extensions or reach.extension in extensions else ()
            if not extensions:
                return Lines((), 0)
        domains = None if reach.domains is None else tuple(sorted(reach.domains))
        found = Search(
            domains, extensions, wanted.read, wanted.saved, wanted.urgent, wanted.since, wanted.until, wanted.caller,
            wanted.min_duration, wanted.max_duration, sort, after,
        )  # fmt: skip
        lines = await self._messages.with_states(await self._page(found, limit=limit, offset=offset))
        # As in the plain list: who may see every domain is told that this one is not there.
        if not lines.total and reach.domains is not None and len(reach.domains) == 1 and grant.domains is None:
            (name,) = reach.domains
            if domain and not await records.hosts(self._readers, name):
                raise NotFound(_NO_DOMAIN)
        return lines

    async def _page(self, wanted: Search, *, limit: int, offset: int) -> Lines:
        try:
            async with self._free:
                found = await search.find(self._switch_pool, self._switch_readers, wanted, limit=limit, offset=offset)
        except UnfitValue:
            if wanted.after is None:
                raise
            raise wrong() from None  # a text that the database's encoding does not have
        messages = await self._messages.of_rows(found.rows)
        return Lines([pages.line(message, found.total) for message in messages], found.total, found.exact, found.last)
