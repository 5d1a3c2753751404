"""Counts what became of attempts to mail, for ``/metrics``."""

from uuid import UUID

from prometheus_client import Counter


class MailOutcomes:
    """An outcome is noted in its transaction and counted after the commit: a transaction that is repeated counts once."""

    def __init__(self) -> None:
        self.mails = Counter(
            "voicemail_mails",
            "Attempts to mail by outcome: sent, failed, unknown and cancelled are final, postponed is tried again",
            ["outcome"],
            registry=None,
        )
        self._noted: dict[UUID, str] = {}

    def note(self, notification_id: UUID, outcome: str) -> None:
        """The outcome that the transaction under way writes."""
        self._noted[notification_id] = outcome

    def committed(self, notification_id: UUID) -> None:
        """Count it."""
        if outcome := self._noted.pop(notification_id, None):
            self.mails.labels(outcome).inc()

    def dropped(self, notification_id: UUID) -> None:
        """Forget it: its transaction was never committed."""
        self._noted.pop(notification_id, None)
