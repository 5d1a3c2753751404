"""The audit for those who may read it."""

import base64
import binascii
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from app.access.audit import store
from app.access.audit.model import Action, Line, clean
from app.access.audit.store import Wanted
from app.access.grant import Grant
from app.access.scopes import EVERY, Scope
from app.database.pool import Pool
from app.errors import Invalid
from app.networks import client_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE = re.compile(r"(-?[0-9]{1,18})\.([0-9]{1,18})")
_NO_DOMAIN = "there is no such domain"


@dataclass(frozen=True, slots=True)
class Filter:
    """What a caller asks for; None: whatever it is."""

    since: datetime | None = None
    until: datetime | None = None  # not included
    domain: str | None = None
    extension: str | None = None
    who: str | None = None
    action: Action | None = None
    address: str | None = None


class Audit:
    """Reads the audit. A caller needs the scope admin; one of some domains sees the rows of these, and none without a domain."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, grant: Grant, wanted: Filter, *, limit: int, cursor: str | None = None) -> tuple[list[Line], str | None]:
        """Rows, newest first, and the cursor of the page that follows; None if there is none.

        Raises ``NotFound`` for a domain that the caller may not see, and ``Invalid`` for a text that is no cursor.
        """
        grant.require(Scope.ADMIN)
        chosen = _wanted(grant, wanted)
        if cursor:
            chosen = replace(chosen, before=_place(cursor))
        lines = await store.page(self._pool, chosen, limit + 1)
        return lines[:limit], _cursor(lines[limit - 1]) if len(lines) > limit else None


def _wanted(grant: Grant, wanted: Filter) -> Wanted:
    domain = None if wanted.domain in (None, "", EVERY) else grant.domain(wanted.domain, absent=_NO_DOMAIN)
    domains = None if grant.domains is None or domain is not None else sorted(grant.domains)
    extension = None if wanted.extension is None else clean(wanted.extension)
    if grant.mailbox is not None:
        inside = domain in (None, grant.mailbox.domain) and extension in (None, grant.mailbox.extension)
        domain, domains = grant.mailbox.domain, None if inside else []
        extension = grant.mailbox.extension
    return Wanted(
        domains=domains,
        domain=domain,
        extension=extension,
        name=None if wanted.who is None else clean(wanted.who),
        action=wanted.action,
        # Refused requests over IPv6 are counted by their network.
        addresses=None if wanted.address is None else [wanted.address, client_of(wanted.address)],
        since=wanted.since,
        until=wanted.until,
    )


def _cursor(line: Line) -> str:
    place = f"{(line.at - _EPOCH) // timedelta(microseconds=1)}.{line.id}"
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[datetime, int]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        found = _PLACE.fullmatch(text)
        if found is not None:
            return _EPOCH + timedelta(microseconds=int(found[1])), int(found[2])
    except (ValueError, OverflowError, binascii.Error):
        pass
    raise Invalid.field("cursor", "is none that this service gave")
