"""Pages of a list: ``limit`` and ``offset`` in, ``data``, ``limit``, ``offset`` and ``total`` out."""

import re
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

T = TypeVar("T")
_DIGITS = re.compile(r"-?[0-9]{1,10}")


def whole_number(value: Any) -> Any:
    """A query parameter as a number; ``+5``, ``1e3`` and digits of other scripts are refused. Raises ``ValueError``."""
    if isinstance(value, str):
        if not _DIGITS.fullmatch(value):
            raise ValueError("must be a whole number")
        return int(value)
    return value


def _truth(value: Any) -> Any:
    if isinstance(value, str):
        if value not in ("true", "false"):
            raise ValueError("must be true or false")
        return value == "true"
    return value


Truth = Annotated[bool, BeforeValidator(_truth)]
"""A query parameter that is ``true`` or ``false``."""


class Paging(BaseModel):
    """Which part of a list is wanted."""

    model_config = ConfigDict(frozen=True)

    limit: Annotated[int, Field(ge=1, le=1000, description="how many at most"), BeforeValidator(whole_number)] = 10
    offset: Annotated[
        int, Field(ge=0, le=2**31 - 1, description="how many to leave out first"), BeforeValidator(whole_number)
    ] = 0


class Page(TypedDict, Generic[T]):
    """A part of a list, and how long the whole list is."""

    data: list[T]
    limit: int
    offset: int
    total: int
