"""One FreeSWITCH as the rest of the service sees it: its Event Socket, its tables, and the phones' message counts."""

from dataclasses import dataclass

from app.database.pool import Pool
from app.database.readers import Readers
from app.switch.esl.event_socket import EventSocket
from app.switch.mwi import MessageWaiting
from app.switch.tables.greetings import GreetingTable
from app.switch.tables.prefs import VoicemailTables


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch, and the database that its tables are in, which may be ours."""

    socket: EventSocket
    profile: str  # of mod_voicemail
    pool: Pool  # of the switch's database, for what changes it or needs a session
    readers: Readers  # of the same, for lists

    @property
    def tables(self) -> VoicemailTables:
        """What is asked of mod_voicemail's tables as a whole, and its PINs."""
        return VoicemailTables(self.pool)

    @property
    def greetings(self) -> GreetingTable:
        """Which greetings mod_voicemail plays."""
        return GreetingTable(self.pool)

    @property
    def mwi(self) -> MessageWaiting:
        """Tells phones how many messages they have."""
        return MessageWaiting(self.socket, self.profile)
