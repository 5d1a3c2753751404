"""How the API shows how many messages a mailbox has."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from app.switch.tables.counts import Counts


class CountsOut(TypedDict):
    """How many messages a mailbox has; one message may count as several of these."""

    new: Annotated[int, Field(description="that nobody listened to")]
    saved: int
    urgent: int
    seconds: Annotated[int, Field(description="of all of them")]


def counts_out(counts: Counts) -> CountsOut:
    """The counts as the API shows them."""
    return {"new": counts.new, "saved": counts.saved, "urgent": counts.urgent, "seconds": counts.seconds}
