"""One Event Socket connection, kept alive: asyncio in front, greenswitch in a thread of its own behind."""

from collections.abc import Callable

from app.errors import SwitchUnavailable
from app.switch.commands import Command
from app.switch.reply import Event, Reply

__all__ = ["Command", "Event", "EventSocket", "Reply"]

SUBSCRIPTION = ("MESSAGE_WAITING", "RELOADXML", "CUSTOM", "vm::maintenance")


class EventSocket:
    """One authenticated Event Socket connection, kept alive."""

    def __init__(
        self,
        host: str,
        port: int,
        password: str,
        *,
        subscription: tuple[str, ...] = SUBSCRIPTION,
        command_timeout: float = 10.0,
        connect_timeout: float = 5.0,
        first_backoff: float = 0.2,
        longest_backoff: float = 15.0,
    ) -> None:
        self.error = "not started"

    @property
    def connected(self) -> bool:
        """Whether commands can be sent now."""
        return False

    def start(self) -> None:
        """Begin to connect, from within the asyncio loop that will use it."""

    async def close(self) -> None:
        """Drop the connection and end the thread, within 2 s whatever the peer does."""

    async def command(self, command: Command, *, timeout: float | None = None) -> Reply:
        """Send a command and wait for its reply, ``timeout`` seconds (default: command_timeout) from now on.

        Raises ``SwitchUnavailable``. A command that times out may still have been carried out.
        """
        raise SwitchUnavailable(self.error)

    async def wait_connected(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for a connection; whether there is one."""
        return self.connected

    def on_event(self, callback: Callable[[Event], None]) -> None:
        """Call ``callback`` on the asyncio loop for every event."""

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the asyncio loop after every connect and subscribe."""
