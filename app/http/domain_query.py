"""The query parameter ``domain``: which domain of its token a call is about. Without it: the token's default domain."""

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, Field
from pydantic.config import JsonDict

from app.access.scopes import EVERY
from app.addressing import Domain
from app.errors import Invalid
from app.http.routing import Request

_LIMITS: JsonDict = {"minLength": 1, "maxLength": 253}


def _domain(text: str) -> str:
    try:
        return Domain.parse(text)
    except Invalid as error:
        raise ValueError(error.errors[0].message) from None


def _domains(text: str) -> str:
    return text if text == EVERY else _domain(text)


DomainName: TypeAlias = (
    Annotated[
        str,
        AfterValidator(_domain),
        Field(description="another domain of the token than its default one", json_schema_extra=_LIMITS),
    ]
    | None
)
DomainsName: TypeAlias = (
    Annotated[
        str,
        AfterValidator(_domains),
        Field(description="another domain of the token than its default one; * for all of them", json_schema_extra=_LIMITS),
    ]
    | None
)
DomainFilter: TypeAlias = (
    Annotated[
        str,
        AfterValidator(_domains),
        Field(description="those about this domain alone; * or left out: all that the token may see", json_schema_extra=_LIMITS),
    ]
    | None
)


class DomainQuery(BaseModel):
    """Which domain of the token a call is about."""

    domain: DomainName = None


def named_domain(request: Request) -> str | None:
    """The domain that a request names, before its query is read as a whole. Raises ``Invalid``."""
    named = request.raw.query.get("domain")
    return Domain.parse(named) if named else None
