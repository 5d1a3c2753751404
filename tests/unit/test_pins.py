"""PINs at rest, the key they need, and which PINs, addresses and texts a mailbox takes."""

import base64
import os
import stat
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from app import fields as shared
from app.addressing import Domain, Extension, MailboxAddress
from app.errors import SettingsError
from app.mailboxes import fields
from app.mailboxes.pins.cipher import PinCipher, PinKeyMissing, PinUnreadable
from app.mailboxes.pins.keys import load_keys, load_or_create_keys

KEY = bytes(range(32))
OTHER_KEY = bytes(range(32, 64))
ADDRESS = MailboxAddress(Extension("101"), Domain("lab.local"))


def test_a_sealed_pin_opens_again_and_never_looks_the_same() -> None:
    cipher, mailbox = PinCipher(KEY), uuid4()

    first, second = cipher.seal(mailbox, "43\N{PILE OF POO}21"), cipher.seal(mailbox, "43\N{PILE OF POO}21")

    assert first != second
    assert b"43" not in first
    assert cipher.open(mailbox, first) == cipher.open(mailbox, second) == "43\N{PILE OF POO}21"


def test_a_pin_copied_to_another_mailbox_does_not_open() -> None:
    cipher = PinCipher(KEY)

    with pytest.raises(PinUnreadable):
        cipher.open(uuid4(), cipher.seal(uuid4(), "4321"))


@pytest.mark.parametrize("damage", [lambda sealed: sealed[:-1], lambda sealed: b"", lambda sealed: b"\x02" + sealed[1:]])
def test_a_damaged_pin_does_not_open(damage) -> None:  # type: ignore[no-untyped-def]
    cipher, mailbox = PinCipher(KEY), uuid4()

    with pytest.raises(PinUnreadable, match="another VOICEMAIL_SECRET_KEY"):
        cipher.open(mailbox, damage(cipher.seal(mailbox, "4321")))


def test_another_key_does_not_open_it_and_says_which_setting_is_wrong() -> None:
    mailbox = uuid4()

    with pytest.raises(PinUnreadable, match="VOICEMAIL_SECRET_KEY") as caught:
        PinCipher(bytes(32)).open(mailbox, PinCipher(KEY).seal(mailbox, "4321"))
    assert "4321" not in repr(caught.value)


def test_digests_tell_pins_apart_and_depend_on_key_and_mailbox() -> None:
    cipher, other = PinCipher(KEY), MailboxAddress(Extension("102"), Domain("lab.local"))

    digests = [
        cipher.digest(ADDRESS, ["1", "2"]), cipher.digest(ADDRESS, ["12"]), cipher.digest(ADDRESS, []),
        cipher.digest(ADDRESS, ["1"]),
        cipher.digest(other, ["1"]), PinCipher(bytes(32)).digest(ADDRESS, ["1"]),
    ]  # fmt: skip

    assert len(set(digests)) == len(digests)
    assert cipher.digest(ADDRESS, ["2", "1"]) == cipher.digest(ADDRESS, ["1", "2"])


def test_an_unset_key_is_made_once_for_the_owner_only(tmp_path: Path) -> None:
    (key,) = load_or_create_keys(None, tmp_path / "data")

    assert load_or_create_keys(None, tmp_path / "data") == (key,)
    assert len(key) == 32
    assert stat.S_IMODE((tmp_path / "data" / "secret.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret.key"]


def test_a_set_key_is_used_and_no_file_is_made(tmp_path: Path) -> None:
    assert load_or_create_keys(SecretStr(base64.b64encode(KEY).decode()), tmp_path) == (KEY,)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "not base64!", base64.b64encode(b"short").decode(), "\x00\udc80"])
def test_a_key_file_that_is_no_key_stops_the_start_without_being_shown(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret.key").write_bytes(content.encode("utf-8", "surrogateescape"))
    (tmp_path / "secret.key").chmod(0o600)

    with pytest.raises(SettingsError, match=r"VOICEMAIL_SECRET_KEY: is unset, and .*secret\.key is not 32 bytes") as caught:
        load_or_create_keys(None, tmp_path)
    assert not content or content not in str(caught.value)


@pytest.mark.parametrize("separator", [",", " ", "\n", ", \t", ",\r\n"])
def test_several_keys_are_taken_from_the_setting_and_from_the_file_in_their_order(tmp_path: Path, separator: str) -> None:
    text = separator.join(base64.b64encode(key).decode() for key in (OTHER_KEY, KEY)) + separator

    assert load_or_create_keys(SecretStr(text), tmp_path) == (OTHER_KEY, KEY)
    (tmp_path / "secret.key").write_text(text)
    (tmp_path / "secret.key").chmod(0o600)
    assert load_or_create_keys(None, tmp_path) == load_keys(None, tmp_path) == (OTHER_KEY, KEY)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o644, 0o777])
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    load_or_create_keys(None, tmp_path)
    (tmp_path / "secret.key").chmod(mode)

    with pytest.raises(SettingsError, match=r"others may read or write .*secret\.key: chmod 600"):
        load_or_create_keys(None, tmp_path)


def test_a_key_file_that_is_no_file_is_refused_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "secret.key", 0o600)

    with pytest.raises(SettingsError, match="is not a file"):
        load_or_create_keys(None, tmp_path)


def test_looking_for_keys_makes_none(tmp_path: Path) -> None:
    assert load_keys(None, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_the_first_key_seals_and_every_key_opens() -> None:
    mailbox, old, new = uuid4(), PinCipher(KEY), PinCipher(OTHER_KEY, KEY)
    sealed = old.seal(mailbox, "0043")

    assert new.open(mailbox, sealed) == "0043"
    assert new.key_id in new.seal(mailbox, "0043")[:5]
    assert old.key_id in sealed[:5]
    assert old.key_id != new.key_id
    assert KEY[:4] not in sealed
    with pytest.raises(PinKeyMissing, match=new.key_id.hex()) as caught:
        old.open(mailbox, new.seal(mailbox, "0043"))
    assert "0043" not in repr(caught.value)
    assert KEY.hex() not in repr(caught.value)


def test_a_digest_is_recognised_whichever_key_made_it() -> None:
    old, new = PinCipher(KEY), PinCipher(OTHER_KEY, KEY)
    digest = old.digest(ADDRESS, ["1"])

    assert new.matches(digest, ADDRESS, ["1"])
    assert not new.matches(digest, ADDRESS, ["2"])
    assert new.knows(digest)
    assert new.digest(ADDRESS, ["1"]) != digest
    alone = PinCipher(OTHER_KEY)
    assert not alone.knows(digest)
    assert not alone.matches(digest, ADDRESS, ["1"])
    assert not alone.knows(b"")


@pytest.mark.parametrize("pin", ["1", "x" * 64, "abc123def", "with space", "\N{PILE OF POO}" * 64, '<a b="c"/>', "$${x}", "-ERR"])
def test_printable_pins_are_taken_as_they_are(pin: str) -> None:
    assert fields.pin(pin) == pin


@pytest.mark.parametrize(
    "pin",
    ["", "x" * 65, "a\nb", "a\rb", "a\0b", "a\tb", "\x7f", "\u2028", "\udc80", " 1", "1 ", "user-choose", "User-Choose", "<!--"],
)
def test_pins_that_the_switch_could_not_keep_are_refused_without_being_shown(pin: str) -> None:
    with pytest.raises(ValueError, match=r"^must ") as caught:
        fields.pin(pin)
    assert len(pin) < 5 or pin == pin.lower() or pin not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("  ", ""),
        ("tech@example.com", "tech@example.com"),
        ("a@x, b@y", "a@x,b@y"),
        ("a@x,b@y,a@X,A@x", "a@x,b@y,A@x"),
        ("o'neil+vm@mail.example.com", "o'neil+vm@mail.example.com"),
        (",".join(f"u{n}@example.com" for n in range(20)), ",".join(f"u{n}@example.com" for n in range(20))),
    ],
)
def test_mail_addresses_are_kept_once_and_without_spaces(given: str, kept: str) -> None:
    assert fields.mail_to(given) == kept


@pytest.mark.parametrize(
    "address",
    [
        "x", "@", "a@", "@b", "a b@c", "a@b c", "a@b@c", "a..b@c", ".a@b", "a.@b", "a@b..c", "a@-b", "a@b.", "a;b@c", "a@b;c@d",
        "<a@b>", '"a"@b', "a`id`@b", "a$x@b", "a|b@c", "a&b@c", "a\\b@c", "A <a@b>", "a@b\r\nBcc: c@d", "a@b\n", "a\0@b", "a\t@b",
        "caf\u00e9@example.com", "a@ex\u00e4mple.com", "x" * 65 + "@b", "a@" + "b" * 64,
        "a@" + ".".join(["b" * 50] * 6), "\udc80@b",
    ],
)  # fmt: skip
def test_what_is_no_mail_address_is_refused_and_the_error_says_which_one(address: str) -> None:
    with pytest.raises(ValueError, match=r"^address 2 \(.*\) (is|must)"):
        fields.mail_to(f"tech@example.com,{address},c@example.com")


@pytest.mark.parametrize("text", ["a@x,,", ",a@x", "a@x,,b@y", ","])
def test_an_empty_address_between_commas_is_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match="is empty"):
        fields.mail_to(text)


def test_more_than_twenty_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 20"):
        fields.mail_to(",".join(f"u{n}@example.com" for n in range(21)))


def test_descriptions_take_lines_and_refuse_control_characters() -> None:
    assert shared.description("For Tech\r\n\t\N{PILE OF POO}") == "For Tech\r\n\t\N{PILE OF POO}"
    for text in ("a\0b", "\x1b[31m", "\x7f", "\udc80", "x" * 1001):
        with pytest.raises(ValueError, match=r"^must not"):
            shared.description(text)


def test_time_zones_are_names_of_the_database() -> None:
    assert shared.time_zone("Asia/Ho_Chi_Minh") == "Asia/Ho_Chi_Minh"
    for name in ("+07:00", "../../etc/passwd", "asia/ho_chi_minh", "", "Mars/Olympus"):
        with pytest.raises(ValueError, match="time zone database"):
            shared.time_zone(name)
