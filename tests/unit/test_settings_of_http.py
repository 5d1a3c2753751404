"""Settings that are safe, or that stop the start with a sentence."""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings, load_settings
from app.errors import SettingsError


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VOICEMAIL_")]:
        monkeypatch.delenv(name)


def load(**changed: Any) -> Settings:
    """Settings with nothing but what is required, and these."""
    required = {
        "database_url": "embedded",
        "domain": "lab.local",
        "directory_path": "/d",
        "recordings_path": "/r",
        "smtp_host": "mail",
        "mail_from": "v@lab.local",
    }
    return load_settings(env_file=Path("/nonexistent"), **required | changed)


def wrong(**changed: Any) -> list[tuple[str, str]]:
    """Which settings are refused, and why."""
    with pytest.raises(SettingsError) as refused:
        load(**changed)
    return [(error.field, error.message) for error in refused.value.errors]


def test_the_limits_are_on_by_default_and_no_proxy_is_trusted() -> None:
    settings = load()

    assert (settings.failed_tokens_a_minute, settings.requests_a_second, settings.downloads_at_once) == (10, 50, 4)
    assert settings.trusted_proxies == ()
    assert settings.docs
    assert settings.metrics


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost", "LOCALHOST"])
def test_on_loopback_no_public_url_is_needed(host: str) -> None:
    assert load(http_host=host).public_url == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "pbx.example", "localhost.example", "", "127.1"])
def test_off_loopback_a_public_url_is_required_by_name(host: str) -> None:
    ((name, message),) = wrong(http_host=host)

    assert name == "VOICEMAIL_PUBLIC_URL"
    assert message.startswith("is required, because VOICEMAIL_HTTP_HOST is not a loopback address")
    assert load(http_host=host, public_url="https://vm.example.com/").public_url == "https://vm.example.com"


def test_a_missing_public_url_is_told_beside_other_wrong_settings() -> None:
    assert {name for name, _ in wrong(http_host="0.0.0.0", smtp_port=0)} == {"VOICEMAIL_PUBLIC_URL", "VOICEMAIL_SMTP_PORT"}


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "https://", "https:///path", "vm.example.com", "https://vm.example.com?x=1", "https://vm.example.com#x", "https://u:p@vm.example.com",
     "https://vm example.com", "https://vm.example.com/\"onclick", "javascript:alert(1)", "https://vm.example.com:port"],
)  # fmt: skip
def test_a_public_url_is_a_url_that_paths_can_follow(url: str) -> None:
    assert [name for name, _ in wrong(public_url=url)] == ["VOICEMAIL_PUBLIC_URL"]


@pytest.mark.parametrize(
    ("url", "kept"),
    [("https://vm.example.com", "https://vm.example.com"), ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
     ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"), ("https://example.com/voicemail/", "https://example.com/voicemail")],
)  # fmt: skip
def test_a_public_url_may_have_a_port_and_a_path(url: str, kept: str) -> None:
    assert load(public_url=url).public_url == kept


def test_trusted_proxies_are_networks_and_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = (ip_network("127.0.0.1/32"), ip_network("10.20.0.0/16"), ip_network("fd00:20::/64"))

    assert load(trusted_proxies="127.0.0.1, 10.20.0.0/16,fd00:20::/64,").trusted_proxies == networks
    assert load(trusted_proxies="").trusted_proxies == ()
    monkeypatch.setenv("VOICEMAIL_TRUSTED_PROXIES", "127.0.0.1,10.20.0.0/16 , fd00:20::/64")
    assert load().trusted_proxies == networks


@pytest.mark.parametrize(
    "given", ["10.20.0.1/16", "nginx", "10.0.0.0/33", '["10.0.0.0/8"]', "0.0.0.0/0", "10.0.0.0/8, ::/0", "10.0.0.0/8;::1", "\n"]
)
def test_what_is_no_network_or_every_address_is_no_trusted_proxy(given: str) -> None:
    if given == "\n":
        assert load(trusted_proxies=given).trusted_proxies == ()
        return
    assert [name for name, _ in wrong(trusted_proxies=given)] == ["VOICEMAIL_TRUSTED_PROXIES"]


@pytest.mark.parametrize("name", ["failed_tokens_a_minute", "requests_a_second", "downloads_at_once"])
def test_a_limit_is_at_least_one(name: str) -> None:
    assert [found for found, _ in wrong(**{name: 0})] == [f"VOICEMAIL_{name.upper()}"]
