"""A switch for what needs one whole, from a connection, or a stand-in for it, and a pool."""

from typing import Any

from app.database.pool import Pool
from app.switch.switch import Switch


def switch_with(socket: Any, pool: Pool) -> Switch:
    """A switch with this Event Socket and these tables; it serves no lists."""
    return Switch(socket, "default", pool, None)  # type: ignore[arg-type]
