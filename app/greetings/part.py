"""Wires greetings."""

from app.greetings.routes import GreetingRoutes
from app.greetings.service import GreetingService
from app.recordings.conversion import Conversion
from app.recordings.index import RecordingIndex
from app.resources import Part, Resources


def open_greetings(resources: Resources, conversion: Conversion) -> Part:
    """Greetings: files in the mailboxes' folders, and the rows by which the switch finds them."""
    greetings = GreetingService(
        pool=resources.pool,
        table=resources.switch.greetings,
        storage=resources.storage,
        index=RecordingIndex(resources.pool, resources.storage),
        conversion=conversion,
        readings=resources.readings,
    )
    return Part(routes=(GreetingRoutes(greetings),))
