"""The HTTP side of mailboxes; its paths and answers are called by clients already and do not change."""

from typing import (
    Any,  # pydantic wants this one before Python 3.12
)

from app.access.grant import Grant
from app.access.scopes import Scope
from app.addressing import Extension, MailboxKey
from app.http.conditions import conditional, etag, if_match
from app.http.domain_query import DomainQuery
from app.http.paging import Page
from app.http.routing import Request, Response, delete, get, patch, post, put
from app.mailboxes.model import (
    KEEP,
    Changed,
    DirectoryState,
    Mailbox,
    MailboxChange,
    NewMailbox,
    join_addresses,
    split_addresses,
)
from app.mailboxes.pins.cipher import PinUnreadable
from app.mailboxes.service import Mailboxes
from app.mailboxes.shapes import (
    Created,
    DirectoryOut,
    Done,
    ListQuery,
    MailboxChangeIn,
    MailboxIn,
    MailboxOut,
    MailboxPatchIn,
    PinMade,
    WarningOut,
)


class MailboxRoutes:
    """List, create, change and delete mailboxes."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes

    # The answers are built as plain dicts: a thousand models take longer to validate and dump than their rows to read.

    @get("/v1/voicemail", scope=Scope.MAILBOX_READ, summary="List mailboxes by extension")
    async def list(self, request: Request, query: ListQuery) -> Page[MailboxOut]:
        """A page of mailboxes."""
        found, total = await self._mailboxes.page(
            request.grant, asked=query.domain, limit=query.limit, offset=query.offset, counted=bool(query.counts)
        )
        data = [self._shown(mailbox, request.grant) for mailbox in found]
        if query.counts:
            for shown, counts in zip(data, await self._mailboxes.counts(request.grant, found), strict=True):
                shown["counts"] = counts.out()
        return {"data": data, "limit": query.limit, "offset": query.offset, "total": total}

    @post("/v1/voicemail", scope=Scope.MAILBOX_WRITE, summary="Create a mailbox", status=201)
    async def create(self, request: Request, body: MailboxIn) -> Response[Created]:
        """The mailbox, after at most two seconds of waiting for the switch."""
        new = NewMailbox(
            extension=Extension(body.extension),
            pin=body.password,
            enabled=body.enabled,
            mail_to=split_addresses(body.mail_to),
            local_after_email=body.local_after_email,
            description=body.description,
            time_zone=body.time_zone,
            id=body.id,
        )
        created = await self._mailboxes.create(request.grant, new, asked=body.domain)
        mailbox = created.mailbox
        answer: Created = {"data": self._shown(mailbox, request.grant), "message": "successfully"}
        if created.warnings:
            answer["warnings"] = _warnings(created)
        domain = mailbox.address.domain
        where = "" if domain == request.grant.default_domain else f"?domain={domain}"
        headers = {"Location": f"/v1/voicemail/{mailbox.id}{where}", **etag(mailbox.version)}
        return Response(answer, headers=headers)

    @get("/v1/voicemail/{key}", scope=Scope.MAILBOX_READ, summary="Get a mailbox by its id or extension")
    async def show(self, request: Request, query: DomainQuery) -> Response[MailboxOut]:
        """The mailbox itself; its ``ETag`` changes with what can be set, not with ``directory``."""
        mailbox = await self._mailboxes.get(request.grant, _key(request), asked=query.domain)
        return Response(self._shown(mailbox, request.grant), headers=etag(mailbox.version))

    @put("/v1/voicemail/{key}", scope=Scope.MAILBOX_WRITE, summary="Change a mailbox")
    @conditional
    async def replace(self, request: Request, query: DomainQuery, body: MailboxChangeIn) -> Done:
        """Done, after at most two seconds of waiting for the switch."""
        change = _change(body, if_match(request.raw))
        return _changed(await self._mailboxes.replace(request.grant, _key(request), change, asked=query.domain))

    @patch("/v1/voicemail/{key}", scope=Scope.MAILBOX_WRITE, summary="Change some fields of a mailbox")
    @conditional
    async def update(self, request: Request, query: DomainQuery, body: MailboxPatchIn) -> Done:
        """Done, after at most two seconds of waiting for the switch."""
        change = _change(body, if_match(request.raw))
        return _changed(await self._mailboxes.replace(request.grant, _key(request), change, asked=query.domain))

    @post("/v1/voicemail/{key}/pin", scope=Scope.MAILBOX_WRITE, summary="Give a mailbox a random PIN")
    @conditional
    async def generate_pin(self, request: Request, query: DomainQuery) -> PinMade:
        """The PIN, after at most two seconds of waiting for the switch."""
        only_if = if_match(request.raw)
        pin, changed = await self._mailboxes.generate_pin(request.grant, _key(request), only_if, asked=query.domain)
        state = changed.mailbox.directory
        directory: DirectoryOut = {"state": state.state, "detail": state.detail}
        return {"message": "successfully", "directory": directory, "password": pin}

    @delete("/v1/voicemail/{key}", scope=Scope.MAILBOX_WRITE, summary="Delete a mailbox; its messages stay")
    @conditional
    async def remove(self, request: Request, query: DomainQuery) -> Done:
        """Done, after at most two seconds of waiting for the switch."""
        only_if = if_match(request.raw)
        return _done(await self._mailboxes.delete(request.grant, _key(request), only_if, asked=query.domain))

    @delete("/v1/voicemail/{key}/lock", scope=Scope.MAILBOX_WRITE, summary="Unlock a mailbox; its PIN opens it again")
    @conditional
    async def unlock(self, request: Request, query: DomainQuery) -> Done:
        """Done, also if it was not locked, after at most two seconds of waiting for the switch."""
        only_if = if_match(request.raw)
        return _done(await self._mailboxes.unlock(request.grant, _key(request), only_if, asked=query.domain))

    async def admit(self, request: Request) -> None:
        """Raise ``NotFound`` if the mailbox of the path does not exist for the caller, before a scope that it lacks is named."""
        if "key" in request.path:
            await self._mailboxes.admitted(request.grant, _key(request), asked=request.raw.query.get("domain"))

    def _shown(self, mailbox: Mailbox, grant: Grant) -> MailboxOut:
        try:
            pin = self._mailboxes.pin(grant, mailbox)
        except PinUnreadable:
            pin = ""  # the other mailboxes of the page are still shown
        return {
            "id": str(mailbox.id),
            "extension": mailbox.address.extension,
            "password": pin,
            "mail_to": join_addresses(mailbox.mail_to),
            "local_after_email": mailbox.local_after_email,
            "enabled": mailbox.enabled,
            "description": mailbox.description,
            "time_zone": mailbox.time_zone,
            "directory": {"state": mailbox.directory.state, "detail": mailbox.directory.detail},
            "domain": mailbox.address.domain,
            "locked_until": mailbox.lock.until.isoformat(timespec="seconds") if mailbox.lock else None,
        }


def _key(request: Request) -> MailboxKey:
    return MailboxKey.parse(request.path["key"])


def _done(state: DirectoryState) -> Done:
    return {"message": "successfully", "directory": {"state": state.state, "detail": state.detail}}


def _changed(changed: Changed) -> Done:
    done = _done(changed.mailbox.directory)
    if changed.warnings:
        done["warnings"] = _warnings(changed)
    return done


def _warnings(changed: Changed) -> list[WarningOut]:
    return [{"field": warning.field, "message": warning.message} for warning in changed.warnings]


_AT_FIRST = {"local_after_email": True, "mail_to": "", "description": "", "time_zone": None}


def _change(body: MailboxChangeIn | MailboxPatchIn, only_if: frozenset[str] | None) -> MailboxChange:
    """The change; a field that the client left out is kept."""
    given: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set - {"password", *body.IGNORED}}
    given.update({name: _AT_FIRST[name] for name, value in given.items() if value is None and name in _AT_FIRST})
    if "mail_to" in given:
        given["mail_to"] = split_addresses(given["mail_to"])
    return MailboxChange(pin=body.password or KEEP, only_if=only_if, **given)
