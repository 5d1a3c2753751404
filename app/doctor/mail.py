"""Checks that the mail server accepts this service, and sends a test mail if asked to."""

from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from app.config import Settings
from app.doctor.report import Finding, failed, ok
from app.mailboxes.fields import mail_to as checked_addresses
from app.mailboxes.model import split_addresses
from app.notifications.mail.conversation import Limits
from app.notifications.mail.pool import SmtpTransport
from app.notifications.model import Outcome, RecipientState

NAME = "mail server"
_CONSEQUENCE = "no notification leaves; each waits and is tried for two days, and every recording is kept"
_LIMITS = Limits(greeting=60, command=60, mail=60, rcpt=60, data=60, block=60, termination=60)  # a person waits
_REMEDY = "compare VOICEMAIL_SMTP_HOST, _PORT, _SECURITY, _USERNAME and _PASSWORD with the mail server's"


async def check_mail(settings: Settings, mail_to: str | None) -> list[Finding]:
    """Connect and log in as the service does; with ``mail_to``, one address or several with commas, also send a test mail."""
    transport = SmtpTransport(
        settings.smtp_host,
        settings.smtp_port,
        sender=settings.mail_from,
        username=settings.smtp_username,
        password=settings.smtp_password.get_secret_value(),
        security=settings.smtp_security,
        connections=1,
        limits=_LIMITS,
    )
    place = f"{settings.smtp_host}:{settings.smtp_port}"
    try:
        if trouble := await transport.probe():
            return [failed(NAME, f"{place}: {trouble}", _CONSEQUENCE, _REMEDY)]
        how = "" if settings.smtp_security == "none" else f", {settings.smtp_security.upper()}"
        found = [ok(NAME, f"{place} answers{how}{', logged in' if settings.smtp_username else ''}")]
        return found if mail_to is None else [*found, await _test_mail(transport, settings.mail_from, mail_to)]
    finally:
        await transport.close()


async def _test_mail(transport: SmtpTransport, sender: str, mail_to: str) -> Finding:
    name = "test mail"
    try:
        recipients = split_addresses(checked_addresses(mail_to))
    except ValueError as error:
        return failed(name, f"--mail-to: {error}", "nothing was sent", "give one address, or several with commas")
    if not recipients:
        return failed(name, "--mail-to is empty", "nothing was sent", "give one address, or several with commas")
    outcomes = await transport.send(recipients, _mail(sender, recipients))
    taken = [outcome for outcome in outcomes if outcome.state is RecipientState.ACCEPTED]
    if len(taken) == len(outcomes):
        return ok(name, f"accepted for {', '.join(recipients)}")
    return failed(
        name,
        "; ".join(_refusal(outcome) for outcome in outcomes if outcome not in taken),
        "notifications to these recipients would end the same way",
        "read the server's words above; its log has the rest",
    )


def _refusal(outcome: Outcome) -> str:
    return f"{outcome.address}: {outcome.code or 'no reply'} {outcome.reply}"


def _mail(sender: str, recipients: Sequence[str]) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, ", ".join(recipients)
    mail["Subject"] = "Test mail of the voicemail service"
    mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain=sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("The voicemail doctor sent this mail. Notifications of new messages take the same way.\n")
    return mail.as_bytes()
