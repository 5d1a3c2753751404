"""Wires messages and their removal."""

from collections.abc import Collection
from contextlib import AsyncExitStack

from app.http.health import OneAtATime
from app.http.metrics import Measure
from app.jobs.claims import Claims
from app.messages import removal_store
from app.messages.hearing import Hearing
from app.messages.intake import Intake
from app.messages.leaving import Leaving
from app.messages.leaving_routes import LeavingRoutes
from app.messages.orphans import Orphans
from app.messages.registry import Announce, Registry
from app.messages.removal import REMOVE, Removal
from app.messages.rendering import Rendering
from app.messages.rescue import Rescue
from app.messages.routes import MessageRoutes
from app.messages.service import Messages
from app.recordings.conversion import Conversion
from app.recordings.index import RecordingIndex
from app.recordings.watcher import RecordingWatcher
from app.resources import Part, Resources
from app.switch.esl.event_socket import Event
from app.switch.tables.indexes import Indexes

_REMOVALS_AT_ONCE = 5
_ORPHANS = "Recordings older than ten minutes that no row of voicemail_msgs names; counted by the copy that leads"


def open_messages(resources: Resources, announce: Announce, conversion: Conversion) -> Part:
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
    rendering = Rendering(settings.zone)
    messages = Messages(resources.readers, resources.switch.readers, registry, resources.storage, resources.readings)
    leaving = Leaving(
        pool=resources.pool,
        switch=resources.switch,
        storage=resources.storage,
        index=index,
        conversion=conversion,
        messages=messages,
        hint=intake.hint,
    )

    def hear(event: Event) -> None:
        hearing.hear(event)
        if resources.leader.leading:
            intake.wake()

    resources.switch.socket.on_event(hear)
    resources.switch.socket.on_connect(lambda: intake.wake(full=True))

    async def folder() -> str:
        await index.check_folder()
        without_row = f"; {orphans.count} recordings without a row" if orphans.count else ""
        return f"{settings.recordings_path}{without_row}"

    return Part(
        routes=(MessageRoutes(messages, rendering, settings.public_url), LeavingRoutes(leaving, rendering, settings.public_url)),
        always=(hearing.run,),
        leading=(intake.run, watcher.run, index.run, rescue.run, orphans.run, Indexes(resources.switch.pool).run),
        due={REMOVE: removal_store.due},
        measures={"voicemail_recordings_without_row": Measure(_ORPHANS, lambda: orphans.count)},
        checks={"recordings": OneAtATime(folder)},
    )


def open_removal(resources: Resources, stack: AsyncExitStack) -> Removal:
    """The only way a message leaves the switch; ``stack`` closes it."""
    claims = Claims(resources.dsn)
    stack.push_async_callback(claims.close)
    removal = Removal(
        pool=resources.pool,
        switch=resources.switch,
        jobs=resources.jobs,
        claims=claims,
        storage=resources.storage,
    )
    resources.jobs.register(REMOVE, removal.remove, concurrency=_REMOVALS_AT_ONCE)
    return removal
