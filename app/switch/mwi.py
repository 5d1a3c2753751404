"""MWI: tells the phones of a mailbox how many messages it has.

mod_voicemail sends it after its own changes, but not after changes made in its tables; those are followed by a ``refresh``.
"""

import re
from collections.abc import Callable
from typing import Protocol

from app.addressing import MailboxAddress
from app.errors import SwitchRefused
from app.switch.commands import Command, message_waiting, vm_boxcount
from app.switch.esl.reply import Reply

_MOST_CORRECTIONS = 10
_COUNTS = re.compile(r"(\d+):(\d+):\d+:\d+")


class Switch(Protocol):
    """The part of ``EventSocket`` that is used here."""

    async def command(self, command: Command, *, timeout: float | None = None) -> Reply:
        """Send one command and wait for its reply."""


class MessageWaiting:
    """Sends MWI for mailboxes of one mod_voicemail profile."""

    def __init__(self, switch: Switch, profile: str = "default") -> None:
        self._switch = switch
        self._profile = profile

    async def refresh(self, address: MailboxAddress) -> None:
        """Count the mailbox's messages as mod_voicemail does, and tell its phones.

        Raises ``SwitchUnavailable``, or ``SwitchRefused`` when the switch does not count (no mod_voicemail, no such profile).
        """
        new, saved = await self._count(address)
        await self.send(address, new=new, saved=saved)

    async def refresh_until_right(self, address: MailboxAddress, again: Callable[[], bool]) -> None:
        """As ``refresh``, and again if the number changed meanwhile, unless ``again`` says that this is called again anyway.

        A message that came between the count and the event would otherwise be hidden: the switch's own event was overtaken.
        """
        counted = await self._count(address)
        for _ in range(_MOST_CORRECTIONS):
            await self.send(address, new=counted[0], saved=counted[1])
            before, counted = counted, await self._count(address)
            if counted == before or again():
                return

    async def _count(self, address: MailboxAddress) -> tuple[int, int]:
        reply = await self._switch.command(vm_boxcount(address, profile=self._profile))
        counts = _COUNTS.fullmatch(reply.value)
        if counts is None:
            raise SwitchRefused(f"the switch did not count the messages of {address}")
        return int(counts[1]), int(counts[2])

    async def send(self, address: MailboxAddress, *, new: int, saved: int) -> None:
        """Tell the phones of a mailbox these numbers. Raises ``SwitchUnavailable`` or ``SwitchRefused``."""
        reply = await self._switch.command(message_waiting(address, new=new, saved=saved))
        if not reply.done:
            raise SwitchRefused(f"the switch did not take the message count of {address}")
