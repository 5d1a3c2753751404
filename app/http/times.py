"""A time in a query."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)


def _time(value: Any) -> Any:
    """A time of RFC 3339, in UTC. Raises ``ValueError``."""
    problem = "must be a time such as 2026-01-31T12:00:00Z; write + as %2B"
    if not isinstance(value, str):
        return value
    if not _TIME.fullmatch(value):
        raise ValueError(problem)
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(problem) from None


Time = Annotated[datetime, BeforeValidator(_time)]
