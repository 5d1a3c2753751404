"""The queries of lists of messages."""

import math
from datetime import datetime
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from app.addressing import Extension
from app.errors import Invalid
from app.http.domain_query import DomainName, DomainsName
from app.http.paging import Paging, Truth, whole_number
from app.http.times import Time
from app.messages.cursors import LONGEST, cursor
from app.messages.pages import Lines
from app.messages.rendering import LineOut
from app.messages.search import Filter
from app.switch.tables.search import COUNTED, Sort

_MOST_EXTENSIONS = 100
_LONGEST_CALLER = 64
_MOST_SECONDS = 2**31 - 1


def _extensions(text: str) -> str:
    if text.count(",") >= _MOST_EXTENSIONS:
        raise ValueError(f"must not name more than {_MOST_EXTENSIONS} extensions")
    try:
        return ",".join(dict.fromkeys(Extension.parse(part) for part in text.split(",") if part))
    except Invalid as error:
        raise ValueError(error.errors[0].message) from None


def _caller(text: str) -> str:
    if len(text) > _LONGEST_CALLER or not text.isprintable():
        raise ValueError(f"must be at most {_LONGEST_CALLER} printable characters")
    return text


def _sort(text: str) -> str:
    if text not in [sort.value for sort in Sort]:
        raise ValueError("must be one of " + " ".join(sort.value for sort in Sort))
    return text


Seconds = Annotated[int, Field(ge=0, le=_MOST_SECONDS), BeforeValidator(whole_number)]


class MailboxMessageQuery(Paging):
    """Which messages of a mailbox are wanted, and in which order."""

    domain: DomainName = None
    read: Annotated[Truth, Field(description="whether it was listened to")] | None = None
    saved: Annotated[Truth, Field(description="whether it was saved on a phone")] | None = None
    urgent: Annotated[Truth, Field(description="whether the caller marked it as urgent")] | None = None
    since: Annotated[Time, Field(description="left at this time or later")] | None = None
    until: Annotated[Time, Field(description="left before this time")] | None = None
    caller: (
        Annotated[
            str,
            AfterValidator(_caller),
            Field(
                description="how the number begins or, if this has a letter, also a part of the name; capitals do not matter",
                json_schema_extra={"minLength": 1, "maxLength": _LONGEST_CALLER},
            ),
        ]
        | None
    ) = None
    min_duration: Annotated[Seconds, Field(description="at least so many seconds long")] | None = None
    max_duration: Annotated[Seconds, Field(description="at most so many seconds long")] | None = None
    sort: (
        Annotated[
            str,
            AfterValidator(_sort),
            Field(
                description="newest first if left out; - is descending; caller is the number",
                json_schema_extra={"enum": [sort.value for sort in Sort]},
            ),
        ]
        | None
    ) = None
    cursor: (
        Annotated[
            str,
            Field(max_length=LONGEST, description="the next of the page before, which had the same sort; it replaces offset"),
        ]
        | None
    ) = None

    @property
    def order(self) -> Sort:
        """What is sorted by."""
        return Sort(self.sort or Sort.NEWEST)

    def wanted(self, extensions: tuple[Extension, ...] = ()) -> Filter:
        """The filters."""
        return Filter(
            extensions=extensions,
            read=self.read,
            saved=self.saved,
            urgent=self.urgent,
            since=_second(self.since),
            until=_second(self.until),
            caller=self.caller,
            min_duration=self.min_duration,
            max_duration=self.max_duration,
        )


class MessageQuery(MailboxMessageQuery):
    """Which messages are wanted, and in which order."""

    REPEATED: ClassVar[frozenset[str]] = frozenset({"extension"})

    domain: DomainsName = None
    extension: (
        Annotated[
            str,
            AfterValidator(_extensions),
            Field(
                description="those of one mailbox, or of several: with commas, or given several times",
                json_schema_extra={"minLength": 1, "maxLength": _MOST_EXTENSIONS * 65},
            ),
        ]
        | None
    ) = None

    trash: Annotated[Truth, Field(description="true: those in the trash, and no other ones")] | None = None

    @model_validator(mode="after")
    def _the_trash_is_not_searched(self) -> Self:
        if self.trash:
            given = self.model_fields_set - {"trash", "extension", "domain", "limit", "offset"}
            for name in given:
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} must be left out beside trash")
        return self

    @property
    def extensions(self) -> tuple[Extension, ...]:
        """The mailboxes; none: every one."""
        return tuple(Extension(part) for part in (self.extension or "").split(",") if part)


class MessagePage(TypedDict):
    """A part of a list of messages; the first four keys and their order are fixed."""

    data: list[LineOut]
    limit: int
    offset: int
    total: Annotated[int, Field(description=f"how many there are in all; with filters counted up to {COUNTED}")]
    total_exact: Annotated[bool, Field(description="false: there are more than total")]
    next: Annotated[str | None, Field(description="the cursor of the page that follows; null: this is the last one")]


def message_page(data: list[LineOut], found: Lines, query: MailboxMessageQuery) -> MessagePage:
    """The answer for a page of lines."""
    following = None if found.last is None else cursor(query.order, found.last)
    return {
        "data": data,
        "limit": query.limit,
        "offset": query.offset,
        "total": found.total,
        "total_exact": found.exact,
        "next": following,
    }


def _second(time: datetime | None) -> int | None:
    """The first whole second that is not before a time."""
    return None if time is None else math.ceil(time.timestamp())
