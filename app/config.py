"""The settings of a process: environment variables ``VOICEMAIL_…``, a ``.env`` file or a folder of secrets.

Every wrong setting is reported at once, by the name of its variable and never with its value.
"""

import base64
import binascii
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.addressing import Domain
from app.errors import FieldError, Invalid, SettingsError

PREFIX = "VOICEMAIL_"
SECRETS_FOLDER = Path("/run/secrets")
SYSTEM_FILE = Path("/etc/voicemail.env")
EMBEDDED = "embedded"  # as VOICEMAIL_DATABASE_URL
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::[0-9]{1,5})?")
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
    if name not in available_timezones():
        raise ValueError("must be a name of the time zone database, such as Asia/Ho_Chi_Minh")
    return name


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


OneLine = Annotated[str, AfterValidator(_one_line)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """The settings of one process; docs/settings.md lists every variable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_file_encoding="utf-8", extra="ignore", hide_input_in_errors=True
    )

    database_url: SecretStr
    switch_database_url: SecretStr | None = None
    data_dir: Path = Path("data")

    http_host: OneLine = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    public_url: OneLine = ""
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
    notify_max_age: Annotated[int, Field(ge=60)] = 24 * 3600
    log_level: Literal["debug", "info", "warning", "error"] = "info"

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
        if value is None:
            return None
        try:
            key = base64.b64decode(value.get_secret_value(), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("must be 32 bytes in base64") from None
        if len(key) != 32:
            raise ValueError("must be 32 bytes in base64")
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
    def _base_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
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
    local = Path(".env")  # in a folder that may not be looked into there is none
    if named is not None or os.path.isfile(local) or any(name.startswith(PREFIX) for name in os.environ):
        return named or local
    return SYSTEM_FILE if SYSTEM_FILE.exists() else local


def load_settings(*, env_file: Path = Path(".env"), **overrides: object) -> Settings:
    """The settings of this process; ``overrides`` (by field name) win. Raises ``SettingsError`` with every wrong setting."""
    unknown = sorted(
        name for name in os.environ if name.startswith(PREFIX) and name[len(PREFIX) :].lower() not in Settings.model_fields
    )
    if env_file == SYSTEM_FILE and not os.access(env_file, os.R_OK):
        raise SettingsError.field(str(env_file), "may not be read: run this as root, or as the service's user")
    secrets = SECRETS_FOLDER if SECRETS_FOLDER.is_dir() and os.access(SECRETS_FOLDER, os.R_OK) else None
    errors = [FieldError(name, "is not a setting of this service") for name in unknown]
    try:
        settings = Settings(_env_file=env_file, _secrets_dir=secrets, **overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        errors += [_field_error(item["loc"], item["msg"]) for item in error.errors(include_input=False)]
    if errors:
        raise SettingsError(errors)
    return settings


def _field_error(location: tuple[int | str, ...], message: str) -> FieldError:
    message = message.removeprefix("Value error, ")
    if not location:
        return FieldError(PREFIX + "SMTP_USERNAME", message)
    name = PREFIX + str(location[0]).upper()
    if message == "Field required":
        return FieldError(name, _NO_DATABASE if location[0] == "database_url" else "is required")
    return FieldError(name, message)
