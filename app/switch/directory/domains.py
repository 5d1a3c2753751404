"""The folders of all domains: one for each if VOICEMAIL_DIRECTORY_PATH holds ``{domain}``, else one for the default domain alone.

A domain's name is safe as a folder's: ``Domain`` begins and ends with a letter or digit and holds no slash, and no two domains
differ in capitals only.
"""

from pathlib import Path

from app.addressing import Domain
from app.config import Settings
from app.switch.directory.files import FilesDirectory
from app.switch.directory.marks import Owner
from app.switch.directory.model import DirectoryRefused
from app.switch.directory.reload import Reloader
from app.switch.directory.xml import Format
from app.switch.esl.event_socket import EventSocket

PLACE = "{domain}"
SETTING = "VOICEMAIL_DIRECTORY_PATH"


class DomainFolders:
    """Gives each domain its ``FilesDirectory``; they share one ``reloadxml``."""

    def __init__(
        self, path: Path, style: Format, switch: EventSocket, installation: str, default: Domain, *, makes: bool = True
    ) -> None:
        """``path`` may hold ``{domain}``; ``installation``: whose the files are, see ``Owner``; ``makes``: missing folders."""
        self._path = path
        self._style: Format = style
        self._switch = switch
        self._installation = installation
        self._default = default
        self._root = root_of(path) if makes else None
        self.reloader = Reloader(switch)
        self._known: dict[Domain, FilesDirectory] = {}

    @classmethod
    def of_settings(cls, settings: Settings, switch: EventSocket, installation: str, *, makes: bool = True) -> "DomainFolders":
        """As the settings say."""
        default = Domain.parse(settings.domain)
        return cls(settings.directory_path, settings.directory_format, switch, installation, default, makes=makes)

    @property
    def only(self) -> Domain | None:
        """The one domain that has a folder; None: every domain has one."""
        return None if PLACE in str(self._path) else self._default

    @property
    def default(self) -> Domain:
        """VOICEMAIL_DOMAIN."""
        return self._default

    def serves(self, domain: Domain) -> bool:
        """Whether mailboxes of this domain reach the switch."""
        return self.only in (None, domain)

    def refusal(self, domain: Domain) -> str:
        """Why mailboxes of a domain that is not served do not reach the switch."""
        return (
            f"{SETTING} has no {PLACE} in it, so mailboxes of {domain} would not reach the switch: only {self._default} is served"
        )

    def owner(self, domain: Domain) -> Owner:
        """What a domain's files are marked with."""
        return Owner(self._installation, domain)

    def of(self, domain: Domain) -> FilesDirectory:
        """The directory of a domain. Raises ``DirectoryRefused``, which names the setting, if it is not served."""
        if not self.serves(domain):
            raise DirectoryRefused(self.refusal(domain))
        if domain not in self._known:
            self._known[domain] = FilesDirectory(
                folder_of(self._path, domain),
                self._style,
                self._switch,
                self.owner(domain),
                reloader=self.reloader,
                root=self._root,
            )
        return self._known[domain]

    async def renew(self) -> None:
        """Have the switch read the files of all domains by one reload. Raises as ``FilesDirectory.renew`` does."""
        await self.of(self._default).renew()


def folder_of(path: Path, domain: Domain) -> Path:
    """The folder of one domain."""
    return Path(str(path).replace(PLACE, domain))


def root_of(path: Path) -> Path | None:
    """What the operator makes: the part above ``{domain}``. The service makes the rest. None: all of it is the operator's."""
    for number, part in enumerate(path.parts):
        if PLACE in part:
            return Path(*path.parts[:number])
    return None
