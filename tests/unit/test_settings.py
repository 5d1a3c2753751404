"""Where settings come from, whom a file of them must belong to, and what is refused when others can reach the service."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import config
from app.config import EXAMPLE_SECRETS, is_loopback, load_settings
from app.errors import SettingsError

NEEDED = {
    "database_url": "embedded", "domain": "lab.local", "directory_path": "/d", "recordings_path": "/r", "smtp_host": "mail.example.com",
    "mail_from": "voicemail@example.com",
}  # fmt: skip
EXAMPLE = (Path(__file__).parents[2] / ".env.example").read_text()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no settings in the environment."""
    for name in list(os.environ):
        if name.upper().startswith("VOICEMAIL_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(config, "SECRETS_FOLDER", tmp_path / "secrets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wrong(**settings: Any) -> dict[str, str]:
    """The settings that are refused, with the reasons."""
    with pytest.raises(SettingsError) as caught:
        load_settings(**{**NEEDED, **settings})
    return {error.field: error.message for error in caught.value.errors}


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_dot_env_is_read_and_the_environment_wins(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place / ".env", "VOICEMAIL_PROFILE=file\nvoicemail_smtp_port=2525\nOTHER=1\nVOICEMAIL_TIME_ZONE=Asia/Tokyo\n", 0o644)
    monkeypatch.setenv("voicemail_time_zone", "UTC")
    monkeypatch.setenv("VOICEMAIL_PROFILE", "environment")

    settings = load_settings(**NEEDED)

    assert (settings.profile, settings.smtp_port, settings.time_zone) == ("environment", 2525, "UTC")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o664, 0o777])
def test_a_dot_env_that_others_may_write_is_not_read(place: Path, mode: int, capsys: pytest.CaptureFixture[str]) -> None:
    write(place / ".env", "VOICEMAIL_PROFILE=planted\nVOICEMAIL_NONSENSE=1\n", mode)

    assert load_settings(**NEEDED).profile == "default"
    assert "is not read: others may write it; chmod go-w .env" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_a_dot_env_of_another_user_is_not_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.chown(write(place / ".env", "VOICEMAIL_PROFILE=planted\n"), 65534, 65534)

    assert load_settings(**NEEDED).profile == "default"
    assert "is not read: it belongs to another user" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link of another user")
def test_a_link_that_another_user_made_to_our_own_file_is_not_followed(place: Path) -> None:
    write(place / "ours.env", "VOICEMAIL_PROFILE=planted\n")
    (place / ".env").symlink_to("ours.env")
    assert load_settings(**NEEDED).profile == "planted"

    os.chown(place / ".env", 65534, 65534, follow_symlinks=False)

    assert load_settings(**NEEDED).profile == "default"


def test_a_file_that_was_asked_for_by_name_and_is_not_safe_is_an_error(place: Path) -> None:
    path = write(place / "other.env", "VOICEMAIL_PROFILE=planted\n", 0o666)

    assert "others may write it" in wrong(env_file=path)[str(path)]


@pytest.mark.parametrize(
    "make",
    [lambda path: os.mkfifo(path, 0o600), lambda path: path.mkdir(mode=0o700), lambda path: path.symlink_to("/dev/zero")],
)
def test_what_is_no_file_is_not_read_and_holds_nobody_up(place: Path, make: Callable[[Path], None]) -> None:
    make(place / ".env")

    assert load_settings(**NEEDED).profile == "default"


def test_a_file_that_is_no_text_is_an_error(place: Path) -> None:
    (place / ".env").write_bytes(b"VOICEMAIL_PROFILE=\xff\xfe")
    (place / ".env").chmod(0o600)

    assert "not UTF-8" in wrong()[".env"]


def test_unknown_names_are_errors_wherever_they_stand(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place / ".env", "VOICEMAIL_PASWORD=s3cr3t\nvoicemail_smpt_host=s3cr3t\nVOICEMAILX=1\nPOSTGRES_PASSWORD=1\n")
    (place / "secrets").mkdir()
    write(place / "secrets/voicemail_esl_pasword", "s3cr3t")
    write(place / "secrets/VOICEMAIL_API_TOKENS", "s3cr3t")
    write(place / "secrets/database_password", "s3cr3t")
    monkeypatch.setenv("Voicemail_Prot", "s3cr3t")

    found = wrong(domain="no domain")

    assert set(found) == {
        "VOICEMAIL_PASWORD", "voicemail_smpt_host", "voicemail_esl_pasword", "VOICEMAIL_API_TOKENS", "Voicemail_Prot", "VOICEMAIL_DOMAIN",
    }  # fmt: skip
    assert found["VOICEMAIL_PASWORD"].endswith("it stands in .env")
    assert found["voicemail_esl_pasword"].endswith(str(place / "secrets"))
    assert "s3cr3t" not in str(found)


def test_secrets_are_read_from_the_folder(place: Path) -> None:
    (place / "secrets").mkdir()
    write(place / "secrets/voicemail_esl_password", "from-the-folder\n")

    assert load_settings(**NEEDED).esl_password.get_secret_value() == "from-the-folder"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "mail.localhost"])
def test_this_machine_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.com", "localhost.example.com", "mailpit", "128.0.0.1"]
)
def test_other_machines_are_known(host: str) -> None:
    assert not is_loopback(host)


def test_the_mail_server_s_password_never_crosses_the_network_in_clear() -> None:
    login = {"smtp_username": "u", "smtp_password": "s3cr3t"}

    found = wrong(**login)
    assert list(found) == ["VOICEMAIL_SMTP_SECURITY"]
    assert "s3cr3t" not in str(found)
    for good in ({"smtp_security": "tls"}, {"smtp_security": "starttls"}, {"smtp_host": "127.0.0.1"}, {"smtp_host": "localhost"}):
        assert load_settings(**{**NEEDED, **login, **good})
    assert load_settings(**NEEDED)


EXAMPLES = {
    "api_token": ("VOICEMAIL_API_TOKEN", "lab-token-change-me-please"),
    "esl_password": ("VOICEMAIL_ESL_PASSWORD", "lab-event-socket-password"),
    "database_url": ("VOICEMAIL_DATABASE_URL", "postgresql://voicemail:password@127.0.0.1/voicemail"),
    "switch_database_url": ("VOICEMAIL_SWITCH_DATABASE_URL", "postgresql://f:lab%2Ddatabase-password@a:1,b:2/freeswitch"),
    "smtp_password": ("VOICEMAIL_SMTP_PASSWORD", "password"),
}


@pytest.mark.parametrize("field", EXAMPLES)
@pytest.mark.parametrize(
    "exposed", [{"http_host": "0.0.0.0"}, {"http_host": "::"}, {"public_url": "https://voicemail.example.com"}]
)
def test_an_example_secret_is_refused_where_others_reach_the_service(field: str, exposed: dict[str, str]) -> None:
    name, value = EXAMPLES[field]
    login = {"smtp_username": "u", "smtp_security": "tls"} if field == "smtp_password" else {}
    public = {"public_url": "https://voicemail.example.com"}

    found = wrong(**{field: value}, **login, **{**public, **exposed})

    assert list(found) == [name]
    assert ".env.example" in found[name]
    assert value not in str(found)


@pytest.mark.parametrize("here", [{}, {"http_host": "::1"}, {"http_host": "0.0.0.0", "public_url": "http://127.0.0.1:8080"}])
def test_on_this_machine_alone_the_examples_will_do(here: dict[str, str]) -> None:
    assert load_settings(**NEEDED, **here, api_token=EXAMPLES["api_token"][1])


def test_every_secret_of_the_example_is_known() -> None:
    secrets = set(re.findall(r"^#?\w+_(?:PASSWORD|TOKEN|SECRET_KEY)=(\S+)$", EXAMPLE, re.MULTILINE))
    secrets |= set(re.findall(r"^#?\w+=postgresql://\w+:([^@\s]+)@", EXAMPLE, re.MULTILINE))

    assert secrets == EXAMPLE_SECRETS
