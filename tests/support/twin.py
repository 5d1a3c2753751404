"""A PBX with two domains that have the same extensions, for tests that happen in one of them."""

from pathlib import Path
from typing import Any

from tests.support.pbx import Site, Switch
from tests.support.plain_client import PlainClient

SECOND = "second.local"
ADDRESS, PIN = "second@example.com", "7788"
EXTENSIONS = ("101", "102")


class TwinSite(Site):
    """What a test does in the first domain must change nothing in the second."""

    def __init__(self, dsn: str, folder: Path, switch: Switch, root: Path) -> None:
        super().__init__(dsn, folder, switch)
        self._root = root

    async def open(self, **settings: Any) -> None:
        """Start everything, with 101 and 102 in the second domain."""
        await super().open(**{"directory_path": self._root / "{domain}", **settings})
        async with self.client.post("/v1/domain", json={"name": SECOND}) as answer:
            assert answer.status in (201, 409)
        for extension in EXTENSIONS:
            body = {"extension": extension, "domain": SECOND, "password": PIN, "enabled": True, "mail_to": ADDRESS}
            async with self.client.post("/v1/voicemail", json=body | {"local_after_email": False}) as answer:
                assert answer.status in (201, 409), await answer.text()

    async def second_is_untouched(self) -> None:
        """The second domain has its mailboxes and PINs, and neither messages nor mails."""
        async with await PlainClient.connect(self.switch.port, self.switch.password) as client:
            for extension in EXTENSIONS:
                assert await client.api(f"user_data {extension}@{SECOND} param vm-password") == PIN
                assert await client.api(f"vm_boxcount {extension}@{SECOND}|all") == "0:0:0:0"
        assert (await self.get(f"/v1/voicemail?domain={SECOND}"))["total"] == len(EXTENSIONS)
        assert (await self.get(f"/v1/voicemail/message?domain={SECOND}"))["total"] == 0
        assert all(ADDRESS not in mail.recipients for mail in self.mail.messages)
        assert not list((self.switch.recordings / SECOND).rglob("*")), "recordings of a mailbox that nobody called"
