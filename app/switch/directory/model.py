"""A mailbox as the switch's directory must have it, and the interface for writing it there."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.addressing import Extension, MailboxAddress
from app.errors import SwitchRefused
from app.switch.directory.marks import Claim, Laid


class DirectoryRefused(SwitchRefused):
    """The switch does not have the mailbox as it should; the detail says what it answered."""


@dataclass(frozen=True, slots=True)
class DirectoryUser:
    """A mailbox as the switch must know it. Neither ``repr`` nor any error shows the PIN."""

    address: MailboxAddress
    pin: str = field(repr=False)
    mail_to: str  # addresses separated by commas, or ""
    enabled: bool


class Directory(Protocol):
    """A way to make mailboxes known to the switch. Each step may be repeated at any time.

    ``put`` is ``write`` and then ``confirm``, ``remove`` is ``erase`` and then ``confirm_gone``: the first steps are short and
    can be done under a lock; the second wait for the switch.
    """

    async def put(self, user: DirectoryUser) -> None:
        """Make the switch have ``user``. Raises ``SwitchUnavailable`` if it is away, ``DirectoryRefused`` if it says no."""

    async def remove(self, address: MailboxAddress) -> None:
        """Take back what ``put`` gave. Raises as ``put`` does."""

    async def write(self, user: DirectoryUser, claim: Claim = ...) -> None:
        """Write the mailbox's file. Raises ``DirectoryRefused`` if that cannot be written, or is another's."""

    async def erase(self, address: MailboxAddress, claim: Claim = ...) -> None:
        """Withdraw what ``write`` laid down; nothing happens if there is nothing of ours. Raises as ``write`` does."""

    async def confirm(self, user: DirectoryUser) -> None:
        """Make the switch read it and check that it answers with exactly this. Raises as ``put`` does."""

    async def confirm_gone(self, address: MailboxAddress) -> None:
        """Make the switch forget it. Raises as ``put`` does."""

    async def look(self) -> Mapping[Extension, Laid]:
        """What is laid down, by anybody. Raises ``DirectoryRefused`` if that cannot be seen."""

    async def lay_down(
        self, users: Sequence[DirectoryUser], gone: Sequence[MailboxAddress], claims: Mapping[Extension, Claim]
    ) -> Mapping[Extension, DirectoryRefused]:
        """``write`` and ``erase`` for many at once, each with its claim; those that failed, and why."""

    async def renew(self) -> None:
        """Make the switch learn everything that is laid down, by one reload. Raises as ``put`` does."""

    async def check(self, users: Sequence[DirectoryUser], gone: Sequence[MailboxAddress]) -> Mapping[Extension, DirectoryRefused]:
        """After ``renew``: those that the switch does not answer as they should be, and why. Raises ``SwitchUnavailable``."""

    async def differing(self, users: Sequence[DirectoryUser]) -> Collection[Extension]:
        """Those of ``users`` for whom nothing is laid down, or something else. Raises as ``look`` does."""

    async def ready(self) -> None:
        """Raise ``DirectoryRefused`` if nothing could be written now."""
