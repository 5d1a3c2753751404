"""The errors that cross a folder's border; ``app.http.problems`` alone maps them to HTTP.

VoicemailError
├── NotFound
├── Conflict
├── PreconditionFailed      it was changed since the caller read it
├── Invalid                 one or more fields, each named
├── Unauthorized            no token was sent
│   └── InvalidToken        the token is not valid
├── Forbidden               the caller is known, and lacks a scope
├── TooManyRequests         the caller may ask again later
├── Unavailable             something outside is away; the same call may work later
│   ├── DatabaseUnavailable
│   └── SwitchUnavailable
├── DatabaseFailed          a statement failed
│   ├── DatabaseUnavailable the same as above
│   └── DatabaseRefused     the database answered, and refused the statement
│       ├── MissingTable, MissingColumn, MissingRight
│       ├── ConstraintViolated
│       │   └── UniqueViolated
│       └── UnfitValue
├── SwitchRefused           the switch refused the command
└── SettingsError           the service cannot start
"""

from collections.abc import Sequence
from dataclasses import dataclass


class VoicemailError(Exception):
    """An error that this service can explain to its caller."""

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip().splitlines()[0]
        super().__init__(self.detail)


class NotFound(VoicemailError):
    """It does not exist."""


class Conflict(VoicemailError):
    """It exists already."""


class PreconditionFailed(VoicemailError):
    """It was changed since it was read; read it again."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field of a request or one wrong setting: its name and what to do about it, never its value."""

    field: str
    message: str


MOST_ERRORS = 100  # a client needs no more to correct its request


class Invalid(VoicemailError):
    """Some fields are wrong. At most ``MOST_ERRORS`` are kept; ``more`` says how many others there are."""

    def __init__(self, errors: Sequence[FieldError], *, more: int = 0) -> None:
        self.errors = tuple(errors[:MOST_ERRORS])
        self.more = more + len(errors) - len(self.errors)
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in self.errors))

    @classmethod
    def field(cls, field: str, message: str) -> "Invalid":
        """One wrong field."""
        return cls([FieldError(field, message)])


class Unauthorized(VoicemailError):
    """A valid bearer token is needed."""


class InvalidToken(Unauthorized):
    """This token is not valid."""


class Forbidden(VoicemailError):
    """The token does not allow this."""

    def __init__(self, scope: str | None = None, detail: str | None = None) -> None:
        """``scope`` is the one that is missing; without it ``detail`` says what else the token must allow."""
        self.scope = scope
        super().__init__(detail or (f"this token lacks the scope {scope}" if scope else None))


class TooManyRequests(VoicemailError):
    """The caller asks more than it may; ``retry_after`` says in how many seconds it may ask again."""

    def __init__(self, detail: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(detail)


class Unavailable(VoicemailError):
    """Something this service needs is away; try again later."""


class DatabaseFailed(VoicemailError):
    """A statement failed: ``DatabaseUnavailable`` or ``DatabaseRefused``; ``reason`` is for an operator, not for clients."""

    def __init__(self, detail: str | None = None, *, reason: str = "") -> None:
        super().__init__(detail)
        self.reason = reason or self.detail


class DatabaseUnavailable(DatabaseFailed, Unavailable):
    """The database does not answer."""


class SwitchUnavailable(Unavailable):
    """The switch does not answer."""


class SwitchRefused(VoicemailError):
    """The switch refused a command; the detail is its reply."""


class DatabaseRefused(DatabaseFailed):
    """The database refused a statement. Holds none of the statement's values; the server's own words are in ``__cause__``."""

    def __init__(self, detail: str, *, sqlstate: str = "", constraint_name: str | None = None) -> None:
        """The names of the facts are those of asyncpg, because pgqueuer reads them."""
        self.sqlstate, self.constraint_name = sqlstate, constraint_name
        super().__init__(detail)


class MissingTable(DatabaseRefused):
    """A table, or its schema, is not there."""


class MissingColumn(DatabaseRefused):
    """A table lacks a column."""


class MissingRight(DatabaseRefused):
    """The database role may not do this."""


class ConstraintViolated(DatabaseRefused):
    """A row does not fit its table."""


class UniqueViolated(ConstraintViolated):
    """A row with the same key is there already."""


class UnfitValue(DatabaseRefused):
    """A value does not fit its column, or the database's encoding."""


class SettingsError(Invalid):
    """Some settings are wrong; each is named by its environment variable."""


def file_and_reason(error: OSError) -> str:
    """The text of an ``OSError``: the file name, if it has one, and the system's message."""
    reason = error.strerror or str(error) or type(error).__name__
    return reason if error.filename is None else f"{error.filename}: {reason}"


def explained(error: BaseException) -> str:
    """What an error says to an operator; not for clients."""
    if isinstance(error, DatabaseFailed):
        return error.reason
    return file_and_reason(error) if isinstance(error, OSError) else str(error) or type(error).__name__


def places_of(error: BaseException) -> list[str]:
    """The lines of this service that an exception passed through, outermost first; for logs that must not hold its text."""
    trace, places = error.__traceback__, []
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith("app."):
            places.append(f"{module}:{trace.tb_lineno}")
        trace = trace.tb_next
    return places
