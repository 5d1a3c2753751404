"""Wires notifications."""

from contextlib import AsyncExitStack

from app.errors import Unavailable
from app.http.health import OneAtATime
from app.http.queues import queue
from app.jobs.claims import Claims
from app.messages.removal import Removal
from app.notifications import after_mail
from app.notifications import store as ledger
from app.notifications.deliver import Mailer
from app.notifications.mail.compose import Composer
from app.notifications.mail.pool import SmtpTransport
from app.notifications.model import NOTIFY
from app.notifications.notices import digest_store as digests
from app.notifications.notices import store as notices
from app.notifications.notices.deliver import NoticeMailer
from app.notifications.notices.model import DIGEST, NOTICE
from app.notifications.recordings import Recordings
from app.notifications.routes import NotificationRoutes
from app.notifications.service import Notifications
from app.notifications.slots import SLOW_A_PLACE, Slots
from app.resources import Part, Resources

_MAIL_SERVER_ASKED_EVERY = 60.0  # seconds between connections that only ask whether it is there
_NOTICES_AT_ONCE = 2


def open_notifications(resources: Resources, removal: Removal, stack: AsyncExitStack) -> Part:
    """Mails about new messages, and the ledger of them; ``stack`` closes what this opens."""
    settings = resources.settings
    slow = SLOW_A_PLACE * settings.mails_at_once
    transport = SmtpTransport(
        settings.smtp_host,
        settings.smtp_port,
        sender=settings.mail_from,
        username=settings.smtp_username,
        password=settings.smtp_password.get_secret_value(),
        security=settings.smtp_security,
        connections=settings.mails_at_once + slow + _NOTICES_AT_ONCE,
    )
    stack.push_async_callback(transport.close)
    claims = Claims(resources.dsn)
    stack.push_async_callback(claims.close)
    mailer = Mailer(
        pool=resources.pool,
        switch_pool=resources.switch.pool,
        jobs=resources.jobs,
        claims=claims,
        transport=transport,
        composer=Composer(sender=settings.mail_from),
        recordings=Recordings(resources.storage),
        removal=removal,
        zone=settings.zone,
        mail_from=settings.mail_from,
        slots=Slots(slow=slow),
    )
    removal.register(after_mail.REASON)
    stack.push_async_callback(mailer.close)
    resources.jobs.register(NOTIFY, mailer.deliver, concurrency=settings.mails_at_once)

    words = NoticeMailer(
        pool=resources.pool,
        jobs=resources.jobs,
        claims=claims,
        transport=transport,
        zone=settings.zone,
        mail_from=settings.mail_from,
    )
    resources.jobs.register(NOTICE, words.deliver, concurrency=_NOTICES_AT_ONCE)
    resources.jobs.register(DIGEST, words.close_digest, concurrency=1)

    async def mail() -> str:
        if trouble := await transport.probe(login=False):
            raise Unavailable(trouble)
        return "answers"

    routes = (NotificationRoutes(Notifications(resources.pool)),)
    return Part(
        routes=routes,
        due={NOTIFY: ledger.due, NOTICE: notices.due, DIGEST: digests.due},
        collectors=(mailer.outcomes.mails,),
        table_gauges=(queue(resources.pool, "mails", "Mails", ledger.WAITING),),
        checks={"mail": OneAtATime(mail, every=_MAIL_SERVER_ASKED_EVERY)},
    )
