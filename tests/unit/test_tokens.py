"""Tokens without a database: their text, the cache of grants, and when a use is noted."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from app.access import credentials
from app.access.authenticator import Authenticator
from app.access.cache import WITH_NEWS, WITHOUT_NEWS, GrantCache
from app.access.grant import Grant
from app.access.limits import FailureLimit
from app.access.model import Found, token_name
from app.access.scopes import ALL_SCOPES
from app.access.usage import TokenUsage
from app.addressing import Domain
from app.errors import Invalid, InvalidToken, Unauthorized

LAB = Domain("lab.local")
STATIC = "a-static-token-of-the-settings"
YEAR = 365 * 86400.0


class Clock:
    """A clock that stands still."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class AuthenticatorUnderTest:
    """An authenticator over a table of tokens that counts its look-ups."""

    def __init__(self) -> None:
        self.clock, self.wall = Clock(), Clock(1_800_000_000.0)
        self.rows: dict[bytes, Found] = {}
        self.looked_up = 0
        self.written: list[dict[bytes, datetime]] = []
        self.cache = GrantCache(self.clock)
        self.usage = TokenUsage(self._write, self.wall)
        self.failures = FailureLimit(10, self.clock)
        self.authenticator = Authenticator(
            self._find, self.cache, self.usage, failures=self.failures, static_token=STATIC, default_domain=LAB
        )
        self.meanwhile = lambda: None

    def token(self, name: str = "phone-book", seconds_left: float = YEAR) -> str:
        """A token that is in the table."""
        text = credentials.make()
        self.rows[credentials.digest(text)] = Found(Grant(name, frozenset({LAB}), LAB, ALL_SCOPES), seconds_left)
        return text

    async def ask(self, text: str, address: str = "192.0.2.1") -> Grant:
        """What a request with this token is granted."""
        return await self.authenticator.grant(f"Bearer {text}", address)

    async def _find(self, digest: bytes) -> Found | None:
        self.looked_up += 1
        found = self.rows.get(digest)
        self.meanwhile()
        return found

    async def _write(self, used: Mapping[bytes, datetime]) -> None:
        self.written.append(dict(used))


@pytest.fixture
def checker() -> AuthenticatorUnderTest:
    return AuthenticatorUnderTest()


def test_a_token_has_a_prefix_and_a_checksum_and_is_never_the_same() -> None:
    made = {credentials.make() for _ in range(200)}

    assert len(made) == 200
    for text in made:
        assert text.startswith("vm_")
        assert text[3:].isalnum()
        assert len(text) == 52
        assert credentials.well_formed(text)


def test_every_single_wrong_or_missing_character_is_noticed_without_the_database() -> None:
    text = credentials.make()
    for place in range(3, len(text)):
        for character in ("0", "Z", "a"):
            changed = text[:place] + character + text[place + 1 :]
            assert credentials.well_formed(changed) == (changed == text)
        assert not credentials.well_formed(text[:place] + text[place + 1 :])
    for odd in ("", "vm_", text + "x", text.upper(), text.lower(), f"{text}\n", f" {text}", "vm_" + "é" * 49, "vm_" + "٣" * 49):
        assert not credentials.well_formed(odd)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "-x",
        "a b",
        "a/b",
        "x" * 65,
        "a\n",
        "a\x00",
        "🎉",
        "%0A",
        "a'b",
        "VOICEMAIL_API_TOKEN",
        "voicemail_api_token",
    ],
)
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        token_name(name)


@pytest.mark.parametrize("name", ["a", "0", "phone-book", "tom@example.com", "x" * 64, "a.b_c-d@e"])
def test_a_plain_name_is_taken(name: str) -> None:
    assert token_name(name) == name


async def test_a_token_is_looked_up_once_and_then_known(checker: AuthenticatorUnderTest) -> None:
    text = checker.token()

    grants = [await checker.ask(text) for _ in range(5)]

    assert checker.looked_up == 1
    assert all(grant is grants[0] for grant in grants)


@pytest.mark.parametrize(
    "text",
    ["x", "vm_", "vm_" + "0" * 49, "vm_\xff", "\udcff", "0" * 4000, credentials.make() + "x", credentials.make()[:-1]],
    ids=range(8),
)
async def test_what_cannot_be_a_token_asks_no_database(checker: AuthenticatorUnderTest, text: str) -> None:
    with pytest.raises(InvalidToken):
        await checker.ask(text)

    assert checker.looked_up == 0


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", f"Basic {STATIC}", STATIC])
async def test_without_a_bearer_token_one_is_asked_for(checker: AuthenticatorUnderTest, header: str | None) -> None:
    with pytest.raises(Unauthorized) as refused:
        await checker.authenticator.grant(header, "192.0.2.1")

    assert not isinstance(refused.value, InvalidToken)


async def test_the_static_token_is_everything_and_is_never_looked_up(checker: AuthenticatorUnderTest) -> None:
    grant = await checker.ask(STATIC)

    assert (grant.domains, grant.scopes, grant.default_domain) == (None, ALL_SCOPES, LAB)
    assert checker.looked_up == 0


async def test_without_a_static_token_an_empty_one_is_refused() -> None:
    checker = AuthenticatorUnderTest()
    checker.authenticator = Authenticator(
        checker._find, checker.cache, checker.usage, failures=checker.failures, static_token=None, default_domain=LAB
    )
    for text in (STATIC, ""):
        with pytest.raises(Unauthorized):
            await checker.ask(text)


async def test_an_expired_token_says_so_and_a_cached_one_ends_on_time(checker: AuthenticatorUnderTest) -> None:
    checker.cache.hearing(True)
    old, ending = checker.token(seconds_left=-1.0), checker.token(seconds_left=3.0)
    with pytest.raises(InvalidToken, match="expired"):
        await checker.ask(old)
    await checker.ask(ending)
    checker.rows.clear()

    checker.clock.now += 2.9
    await checker.ask(ending)
    checker.clock.now += 0.2
    with pytest.raises(InvalidToken):
        await checker.ask(ending)


async def test_while_changes_are_not_heard_of_a_grant_is_good_for_five_seconds(checker: AuthenticatorUnderTest) -> None:
    text = checker.token()
    await checker.ask(text)
    checker.rows.clear()

    checker.clock.now += WITHOUT_NEWS - 0.1
    await checker.ask(text)
    checker.clock.now += 0.2
    with pytest.raises(InvalidToken):
        await checker.ask(text)
    assert WITHOUT_NEWS <= 5


async def test_a_change_that_is_heard_of_is_obeyed_at_once_and_leaves_other_tokens_known(checker: AuthenticatorUnderTest) -> None:
    checker.cache.hearing(True)
    gone, stays = checker.token("gone"), checker.token("stays")
    for text in (gone, stays):
        await checker.ask(text)
    del checker.rows[credentials.digest(gone)]

    checker.cache.changed("gone")

    with pytest.raises(InvalidToken):
        await checker.ask(gone)
    before = checker.looked_up
    await checker.ask(stays)
    assert checker.looked_up == before


async def test_a_revocation_during_a_look_up_is_not_forgotten(checker: AuthenticatorUnderTest) -> None:
    checker.cache.hearing(True)
    text = checker.token("gone")

    def revoke() -> None:
        checker.rows.clear()
        checker.cache.changed("gone")

    checker.meanwhile = revoke
    await checker.ask(text)  # its row was read before the revocation

    with pytest.raises(InvalidToken):
        await checker.ask(text)


@pytest.mark.parametrize("hearing", [True, False])
async def test_when_listening_begins_or_ends_everything_is_looked_up_again(
    checker: AuthenticatorUnderTest, hearing: bool
) -> None:
    checker.cache.hearing(not hearing)
    text = checker.token()
    await checker.ask(text)
    checker.rows.clear()

    checker.cache.hearing(hearing)

    with pytest.raises(InvalidToken):
        await checker.ask(text)


async def test_a_grant_does_not_stay_for_ever_even_while_listening(checker: AuthenticatorUnderTest) -> None:
    checker.cache.hearing(True)
    text = checker.token()
    await checker.ask(text)
    checker.rows.clear()

    checker.clock.now += WITH_NEWS + 0.1

    with pytest.raises(InvalidToken):
        await checker.ask(text)


async def test_a_use_is_written_once_a_minute(checker: AuthenticatorUnderTest) -> None:
    text = checker.token()
    for _ in range(5):
        await checker.ask(text)
        await checker.usage.flush()
    checker.wall.now += 60
    await checker.ask(text)
    await checker.usage.flush()

    moments = [written[credentials.digest(text)] for written in checker.written]
    assert len(moments) == 2
    assert all(moment.second == 0 and moment.tzinfo is UTC for moment in moments)


async def test_a_use_that_could_not_be_written_is_written_later(checker: AuthenticatorUnderTest) -> None:
    text = checker.token()
    good = checker.usage._write

    async def away(_used: Mapping[bytes, datetime]) -> None:
        raise ConnectionError

    checker.usage._write = away
    await checker.ask(text)
    with pytest.raises(ConnectionError):
        await checker.usage.flush()
    checker.usage._write = good
    await checker.usage.flush()

    assert [list(written) for written in checker.written] == [[credentials.digest(text)]]


async def test_a_refused_token_leaves_no_trace(checker: AuthenticatorUnderTest) -> None:
    with pytest.raises(InvalidToken):
        await checker.ask(credentials.make())
    await checker.usage.flush()

    assert checker.written == []


async def test_a_last_write_that_takes_too_long_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.access.usage._LAST_WRITE", 0.01)

    async def write(_used: Mapping[bytes, datetime]) -> None:
        await asyncio.sleep(60)

    usage = TokenUsage(write)
    task = asyncio.create_task(usage.run())
    await asyncio.sleep(0)
    usage.note(b"digest")
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
