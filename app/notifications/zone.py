"""The time zone in which a mail tells times."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def zone_of(name: str | None, otherwise: ZoneInfo) -> ZoneInfo:
    """The zone of this name; ``otherwise`` if there is none, or if this machine does not know it."""
    try:
        return ZoneInfo(name) if name else otherwise
    except (ZoneInfoNotFoundError, ValueError):
        return otherwise
