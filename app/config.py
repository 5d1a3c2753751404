"""The settings of a process: environment variables ``VOICEMAIL_…``, a ``.env`` file or a folder of secrets.

Every wrong setting is reported at once, by the name of its variable and never with its value.
"""

import base64
import binascii
import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app import fields
from app.addressing import Domain
from app.errors import FieldError, Invalid, SettingsError
from app.settings_files import IMPLICIT, names_in, read_env_file, unknown_names

PREFIX = "VOICEMAIL_"
SECRETS_FOLDER = Path("/run/secrets")
SYSTEM_FILE = Path("/etc/voicemail.env")
EMBEDDED = "embedded"  # as VOICEMAIL_DATABASE_URL
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::[0-9]{1,5})?")
# The secrets of .env.example, which a test compares.
EXAMPLE_SECRETS = frozenset({
    "lab-database-password", "lab-event-socket-password", "lab-token-change-me-please", "freeswitch", "password",
})  # fmt: skip
KEYS_FORM = "must be 32 bytes in base64, or several such keys with commas or spaces between them"
_BASE_URL = re.compile(r"https?://(?:[0-9A-Za-z][0-9A-Za-z._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[^\s?#\"<>\\]*)?")
_NO_DATABASE = (
    "is required: postgresql://user:password@host/database, the PostgreSQL that the switch uses too; "
    f"or {EMBEDDED}, a PostgreSQL of the service's own, for trying things out (`voicemail sandbox` needs neither)"
)
_SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}


def _domain(text: str) -> str:
    try:
        return Domain.parse(text)
    except Invalid as error:
        raise ValueError(error.errors[0].message) from None


def _time_zone(name: str) -> str:
    try:
        return fields.time_zone(name)
    except ValueError as error:
        raise ValueError(f"{error}, such as Asia/Ho_Chi_Minh") from None


def _one_line(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("must not hold control characters")
    return text


def _dsn_problem(dsn: str) -> str | None:
    """The fault in a database URL. The text never quotes the URL."""
    if not dsn.startswith(("postgresql://", "postgres://")):
        return "must begin with postgresql://"
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return "is not a URL such as postgresql://user:password@host:5432/database"
    if not all(_HOST.fullmatch(host) for host in parts.netloc.rpartition("@")[2].split(",")):
        return "must be as postgresql://user:password@host:5432/database; write @ / : in a password as %40 %2F %3A"
    if not set(parse_qs(parts.query).get("sslmode", [])) <= _SSL_MODES:
        return "sslmode must be one of " + ", ".join(sorted(_SSL_MODES))
    return None


def decoded_keys(text: str) -> tuple[bytes, ...] | None:
    """The keys in a text, in their order; None if there are none, or one of them is not 32 bytes in base64."""
    keys = []
    for word in text.replace(",", " ").split():
        try:
            keys.append(base64.b64decode(word, validate=True))
        except (binascii.Error, ValueError):
            return None
    return tuple(keys) if keys and all(len(key) == 32 for key in keys) else None


def _networks(given: object) -> object:
    """The networks in a list with commas. Raises ``ValueError`` for what is none, and for one that holds every address."""
    if not isinstance(given, str):
        return given
    try:
        networks = tuple(ip_network(part.strip()) for part in given.split(",") if part.strip())
    except ValueError:
        raise ValueError("must be addresses or networks with commas, such as 127.0.0.1, 10.20.0.0/16, fd00:20::/64") from None
    if any(network.prefixlen == 0 for network in networks):
        raise ValueError("must not hold every address: each client could say that it is another")
    return networks


OneLine = Annotated[str, AfterValidator(_one_line)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]


class Settings(BaseSettings):
    """The settings of one process; docs/settings.md lists every variable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", hide_input_in_errors=True)

    database_url: SecretStr
    switch_database_url: SecretStr | None = None
    data_dir: Path = Path("data")

    http_host: OneLine = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    public_url: Annotated[OneLine, Field(validate_default=True)] = ""
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_networks)] = ()
    failed_tokens_a_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    requests_a_second: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    downloads_at_once: Annotated[int, Field(ge=1, le=1000)] = 4
    docs: bool = True
    metrics: bool = True
    http_header_seconds: Seconds = 10.0
    http_body_seconds: Seconds = 30.0
    http_idle_seconds: Seconds = 30.0
    http_stall_seconds: Seconds = 60.0
    http_connections: Annotated[int, Field(ge=8, le=100_000)] = 1000
    http_connections_per_address: Annotated[int, Field(ge=1, le=100_000)] = 64
    api_token: SecretStr | None = None
    secret_key: SecretStr | None = None

    domain: Annotated[str, AfterValidator(_domain)]
    time_zone: Annotated[str, AfterValidator(_time_zone)] = "UTC"

    esl_host: OneLine = "127.0.0.1"
    esl_port: Port = 8021
    esl_password: SecretStr = SecretStr("ClueCon")
    profile: Annotated[str, Field(pattern=r"^[0-9A-Za-z._-]{1,64}$")] = "default"

    directory_mode: Literal["files"] = "files"
    directory_format: Literal["users", "fragments"] = "users"
    directory_path: Path

    recordings_path: Path
    recordings_switch_path: OneLine = ""
    recordings_refuse_hard_links: bool = False

    smtp_host: OneLine
    smtp_port: Port = 25
    smtp_username: OneLine = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_security: Literal["none", "starttls", "tls"] = "none"
    mail_from: OneLine
    mails_at_once: Annotated[int, Field(ge=1, le=100)] = 10
    mails_per_hour: Annotated[int, Field(ge=0, le=100_000)] = 30
    notify_max_age: Annotated[int, Field(ge=60)] = 24 * 3600
    trash_days: Annotated[int, Field(ge=1, le=3650)] = 30
    audio_cache: Annotated[int, Field(ge=0, le=1_000_000)] = 512
    audit_days: Annotated[int, Field(ge=1, le=36500)] = 365
    lockout_attempts: Annotated[int, Field(ge=0, le=1000)] = 10
    lockout_window: Annotated[int, Field(ge=1, le=7 * 86400)] = 900
    lockout_first: Annotated[int, Field(ge=1, le=7 * 86400)] = 900
    lockout_longest: Annotated[int, Field(ge=1, le=30 * 86400)] = 86400
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: Annotated[str, Field(pattern=r"^(https?://[^\s@?#]+)?$")] = ""

    @field_validator("database_url")
    @classmethod
    def _own_database(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value():  # as an empty line in a file of settings
            raise ValueError(_NO_DATABASE)
        if value.get_secret_value() != EMBEDDED and (problem := _dsn_problem(value.get_secret_value())):
            raise ValueError(problem)
        return value

    @field_validator("switch_database_url")
    @classmethod
    def _switch_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (problem := _dsn_problem(value.get_secret_value())):
            raise ValueError(problem)
        return value

    @field_validator("api_token")
    @classmethod
    def _long_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not (16 <= len(value.get_secret_value()) <= 200 and value.get_secret_value().isascii()):
            raise ValueError("must be 16 to 200 ASCII characters")
        return value

    @field_validator("secret_key")
    @classmethod
    def _key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and decoded_keys(value.get_secret_value()) is None:
            raise ValueError(KEYS_FORM)
        return value

    @field_validator("esl_password", "smtp_password")
    @classmethod
    def _secret_line(cls, value: SecretStr) -> SecretStr:
        _one_line(value.get_secret_value())
        return value

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, value: str) -> str:
        local, _, host = value.partition("@")
        if not local or not host or any(character in value for character in ' <>,;"()') or not value.isascii():
            raise ValueError("must be one mail address, such as voicemail@example.com")
        return value

    @field_validator("directory_path")
    @classmethod
    def _one_place(cls, value: Path) -> Path:
        left = str(value).replace("{domain}", "", 1)
        if "{" in left or "}" in left:
            raise ValueError("may hold {domain} once, and no other { or }")
        return value

    @field_validator("public_url")
    @classmethod
    def _base_url(cls, value: str, info: ValidationInfo) -> str:
        if value and not _BASE_URL.fullmatch(value):
            raise ValueError("must be http:// or https:// with a host, such as https://voicemail.example.com")
        if not value and not is_loopback(info.data.get("http_host", "localhost")):
            raise ValueError(
                "is required, because VOICEMAIL_HTTP_HOST is not a loopback address: it is how clients reach this service, "
                "such as https://voicemail.example.com, and links to recordings begin with it"
            )
        return value.rstrip("/")

    @field_validator("recordings_switch_path")
    @classmethod
    def _switch_path(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError("must be an absolute path, as the switch writes it in file_path")
        return value

    @model_validator(mode="after")
    def _auth_needs_both(self) -> Self:
        if bool(self.smtp_username) != bool(self.smtp_password.get_secret_value()):
            raise ValueError("VOICEMAIL_SMTP_USERNAME and VOICEMAIL_SMTP_PASSWORD must be set together")
        return self

    @property
    def embedded(self) -> bool:
        """Whether the service runs a PostgreSQL of its own, because it was asked to."""
        return self.database_url.get_secret_value() == EMBEDDED

    @property
    def zone(self) -> ZoneInfo:
        """The service's time zone."""
        return ZoneInfo(self.time_zone)

    @property
    def recordings_root_on_switch(self) -> str:
        """The recordings folder as the switch names it in ``file_path``, without a final slash."""
        return (self.recordings_switch_path or str(self.recordings_path.absolute())).rstrip("/") or "/"


def settings_file(named: Path | None) -> Path:
    """The file that was named; else ``.env``; else, if the environment has no setting either, the installed service's."""
    # In a folder that may not be looked into there is no .env.
    if named is not None or os.path.isfile(IMPLICIT) or any(name.startswith(PREFIX) for name in os.environ):
        return named or IMPLICIT
    return SYSTEM_FILE if SYSTEM_FILE.exists() else IMPLICIT


def load_settings(*, env_file: Path = IMPLICIT, **overrides: object) -> Settings:
    """The settings of this process; ``overrides`` (by field name) win. Raises ``SettingsError`` with every wrong setting."""
    if env_file == SYSTEM_FILE and not os.access(env_file, os.R_OK):
        raise SettingsError.field(str(env_file), "may not be read: run this as root, or as the service's user")
    secrets = SECRETS_FOLDER if SECRETS_FOLDER.is_dir() and os.access(SECRETS_FOLDER, os.R_OK) else None
    written = read_env_file(env_file)
    errors = [
        *unknown_names(os.environ, PREFIX, Settings.model_fields),
        *unknown_names(written, PREFIX, Settings.model_fields, str(env_file)),
        *unknown_names(names_in(secrets), PREFIX, Settings.model_fields, str(secrets)),
    ]
    given = {name.upper() for name in os.environ}
    values = {
        field: value
        for name, value in written.items()
        if (field := name.upper().removeprefix(PREFIX).lower()) in Settings.model_fields
        and name.upper() == PREFIX + field.upper() not in given
    }
    try:
        settings = Settings(_secrets_dir=secrets, **{**values, **overrides})  # type: ignore[arg-type]
    except ValidationError as error:
        errors += [_field_error(item["loc"], item["msg"]) for item in error.errors(include_input=False)]
    else:
        errors += _refused_off_loopback(settings)
    if errors:
        raise SettingsError(errors)
    return settings


def _refused_off_loopback(settings: Settings) -> list[FieldError]:
    """What may only be so while nobody but this machine is concerned."""
    errors = []
    if settings.smtp_username and settings.smtp_security == "none" and not is_loopback(settings.smtp_host):
        message = "must be starttls or tls: else the mail server's password crosses the network in clear"
        errors.append(FieldError(PREFIX + "SMTP_SECURITY", message))
    reached_at = urlsplit(settings.public_url).hostname if settings.public_url else settings.http_host
    if not is_loopback(reached_at or ""):
        message = "is an example that everybody can read in .env.example: set another one before clients reach this service"
        errors += [FieldError(PREFIX + field.upper(), message) for field in _example_secrets(settings)]
    return errors


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, by its address or as ``localhost``; other names are not looked up."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _example_secrets(settings: Settings) -> list[str]:
    """The fields that hold a secret of .env.example, a database's password included."""
    found = []
    for field in Settings.model_fields:
        value = getattr(settings, field)
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            secret = unquote(urlsplit(text).password or "") if field.endswith("database_url") else text
            if secret in EXAMPLE_SECRETS:
                found.append(field)
    return found


def _field_error(location: tuple[int | str, ...], message: str) -> FieldError:
    message = message.removeprefix("Value error, ")
    if not location:
        return FieldError(PREFIX + "SMTP_USERNAME", message)
    name = PREFIX + str(location[0]).upper()
    if message == "Field required":
        return FieldError(name, _NO_DATABASE if location[0] == "database_url" else "is required")
    return FieldError(name, message)
