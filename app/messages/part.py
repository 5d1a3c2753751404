"""Wires messages and their removal."""

from collections.abc import Collection
from contextlib import AsyncExitStack

from app.http.health import OneAtATime
from app.http.metrics import Measure
from app.http.queues import queue
from app.jobs.claims import Claims
from app.messages import heard, removal_store, transfer_store
from app.messages.action_routes import ActionRoutes
from app.messages.actions import MessageActions, reasons
from app.messages.audio import MessageAudio
from app.messages.audio_routes import AudioRoutes
from app.messages.bulk import Bulk
from app.messages.bulk_routes import BulkRoutes
from app.messages.hearing import Hearing
from app.messages.intake import Intake
from app.messages.leaving import Leaving
from app.messages.leaving_routes import LeavingRoutes
from app.messages.links.routes import LinkRoutes
from app.messages.links.service import Links
from app.messages.mailbox import MailboxMessages
from app.messages.mailbox_routes import MailboxMessageRoutes
from app.messages.orphans import Orphans
from app.messages.phone_updates import PhoneUpdates
from app.messages.registry import Announce, Registry
from app.messages.removal import REMOVE, Removal
from app.messages.rendering import Rendering
from app.messages.rescue import Rescue
from app.messages.routes import MessageRoutes
from app.messages.search import MessageSearch
from app.messages.selection import Selection
from app.messages.sending import Sending, move_reason
from app.messages.sending_routes import SendingRoutes
from app.messages.service import Messages
from app.messages.transfers import TRANSFER, Transfers
from app.messages.trash import Trash, TrashAside
from app.messages.trash_many import ManyToTrash
from app.messages.trash_purge import TrashPurge
from app.recordings.audio.conversions import Conversions
from app.recordings.conversion import Conversion
from app.recordings.index import RecordingIndex
from app.recordings.trash import TrashFolder
from app.recordings.watcher import RecordingWatcher
from app.resources import Part, Resources
from app.switch.esl.event_socket import Event
from app.switch.tables.indexes import Indexes

_REMOVALS_AT_ONCE = 5
_TRANSFERS_AT_ONCE = 4
_ORPHANS = "Recordings older than ten minutes that no row of voicemail_msgs names; counted by the copy that leads"


def open_messages(
    resources: Resources,
    announce: Announce,
    *,
    removal: Removal,
    phones: PhoneUpdates,
    claims: Claims,
    conversion: Conversion,
) -> Part:
    """Messages: read live, found by the intake. ``announce`` decides what is news, in the transaction that records it."""
    settings = resources.settings
    registry = Registry(resources.pool, resources.switch.pool, resources.storage, announce, max_age=settings.notify_max_age)
    index = RecordingIndex(resources.pool, resources.storage)
    intake = Intake(resources.pool, resources.switch.pool, registry, index, resources.paths)
    watcher = RecordingWatcher(index, resources.paths, intake.hint_local)

    def hint(file_paths: Collection[str]) -> None:
        if resources.leader.leading:
            intake.hint(file_paths)

    hearing = Hearing(resources.pool, resources.paths, hint)
    rescue = Rescue(resources.pool, resources.switch, resources.storage, intake.hint)
    orphans = Orphans(resources.pool, resources.switch.pool, resources.storage, rescue)
    messages = Messages(resources.readers, resources.switch.readers, registry, resources.storage)
    folder = TrashFolder(resources.storage, links=not settings.recordings_refuse_hard_links)
    aside = TrashAside(resources.pool, resources.switch.pool, resources.storage, folder)
    for reason in (*reasons(aside), move_reason()):
        removal.register(reason)
    trash = Trash(
        pool=resources.pool,
        readers=resources.readers,
        switch=resources.switch,
        storage=resources.storage,
        folder=folder,
        removal=removal,
        phones=phones,
        days=settings.trash_days,
    )
    purge = TrashPurge(resources.pool, trash, folder, days=settings.trash_days)
    actions = MessageActions(
        pool=resources.pool, switch=resources.switch, messages=messages, removal=removal, trash=trash, phones=phones
    )
    leaving = Leaving(
        pool=resources.pool,
        switch=resources.switch,
        storage=resources.storage,
        index=index,
        conversion=conversion,
        messages=messages,
        hint=intake.hint,
    )
    sending = _sending(resources, registry, removal, phones, claims)
    many = ManyToTrash(
        pool=resources.pool, switch=resources.switch, jobs=resources.jobs, claims=claims, storage=resources.storage,
        folder=folder, removal=removal, phones=phones,
    )  # fmt: skip
    bulk = Bulk(
        pool=resources.pool, switch=resources.switch, messages=messages, actions=actions, sending=sending, trash=many,
        phones=phones,
    )  # fmt: skip

    def hear(event: Event) -> None:
        hearing.hear(event)
        if resources.leader.leading:
            intake.wake()

    resources.switch.socket.on_event(hear)
    resources.switch.socket.on_connect(lambda: intake.wake(full=True))

    async def recordings() -> str:
        await index.check_folder()
        without_row = f"; {orphans.count} recordings without a row" if orphans.count else ""
        return f"{settings.recordings_path}{without_row}"

    return Part(
        routes=(
            *_routes(resources, messages, actions),
            LeavingRoutes(leaving, Rendering(settings.zone), settings.public_url),
            SendingRoutes(actions, sending),
            BulkRoutes(bulk),
        ),
        always=(hearing.run, phones.run),
        leading=(intake.run, watcher.run, index.run, rescue.run, orphans.run, purge.run, Indexes(resources.switch.pool).run),
        due={REMOVE: removal_store.due, TRANSFER: transfer_store.due},
        measures={"voicemail_recordings_without_row": Measure(_ORPHANS, lambda: orphans.count)},
        collectors=(registry.lag, index.indexed),
        table_gauges=(
            queue(resources.pool, "removals", "Removals of messages", removal_store.WAITING),
            queue(resources.pool, "announced_messages", "Messages that the switch announced and whose rows", heard.WAITING),
        ),
        checks={"recordings": OneAtATime(recordings)},
    )


def _routes(resources: Resources, messages: Messages, actions: MessageActions) -> tuple[object, ...]:
    settings, storage, readings = resources.settings, resources.storage, resources.readings
    rendering, url = Rendering(settings.zone), settings.public_url
    search = MessageSearch(resources.readers, resources.switch.readers, resources.switch.pool, messages)
    of_mailbox = MailboxMessages(resources.pool, resources.switch.readers)
    conversions = Conversions(settings.data_dir / "audio", most_bytes=settings.audio_cache * 1024 * 1024)
    audio = MessageAudio(messages, storage, readings, conversions)
    links = Links(resources.pool, messages, audio, static_token=settings.api_token is not None)
    return (
        MessageRoutes(messages, search, actions, rendering, url),
        MailboxMessageRoutes(of_mailbox, search, rendering, url),
        ActionRoutes(actions),
        AudioRoutes(messages, audio, Selection(messages, storage, readings, rendering)),
        LinkRoutes(links, messages, url),
    )


def _sending(resources: Resources, registry: Registry, removal: Removal, phones: PhoneUpdates, claims: Claims) -> Sending:
    """Messages to other mailboxes, with the jobs that go on after a crash."""
    transfers = Transfers(
        pool=resources.pool,
        switch=resources.switch,
        jobs=resources.jobs,
        claims=claims,
        storage=resources.storage,
        registry=registry,
        removal=removal,
        phones=phones,
        links=not resources.settings.recordings_refuse_hard_links,
    )
    resources.jobs.register(TRANSFER, transfers.transfer, concurrency=_TRANSFERS_AT_ONCE)
    return Sending(resources.pool, transfers)


def open_removal(resources: Resources, stack: AsyncExitStack) -> tuple[Removal, PhoneUpdates, Claims]:
    """The only way a message leaves the switch, what tells the phones, and the claims on both; ``stack`` closes it."""
    phones = PhoneUpdates(resources.pool, resources.switch.mwi)
    claims = Claims(resources.dsn)
    stack.push_async_callback(claims.close)
    removal = Removal(
        pool=resources.pool,
        switch=resources.switch,
        jobs=resources.jobs,
        claims=claims,
        storage=resources.storage,
        phones=phones,
    )
    resources.jobs.register(REMOVE, removal.remove, concurrency=_REMOVALS_AT_ONCE)
    return removal, phones, claims
