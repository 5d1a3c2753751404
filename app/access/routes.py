"""The HTTP side of tokens. Only the answers that create or rotate a token hold its text."""

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from app.access.model import NewToken, TokenInfo, token_name
from app.access.scopes import EVERY, Scope
from app.access.tokens import LONGEST_OVERLAP, OVERLAP, Tokens
from app.addressing import Domain
from app.errors import Invalid
from app.http.done import Done
from app.http.paging import Page, Paging
from app.http.routing import Request, Response, delete, get, post

_SCOPES = [EVERY, *(scope.value for scope in Scope)]
_MOST_DOMAINS = 1000


def _name(text: str) -> str:
    try:
        return token_name(text)
    except Invalid as error:
        raise ValueError(error.errors[0].message) from None


def _domain(text: str) -> str:
    try:
        return text if text == EVERY else Domain.parse(text)
    except Invalid as error:
        raise ValueError(error.errors[0].message) from None


def _scope(text: str) -> str:
    if text not in _SCOPES:
        raise ValueError("must be one of " + " ".join(_SCOPES))
    return text


def _alone(items: list[str]) -> list[str]:
    if EVERY in items and len(items) > 1:
        raise ValueError("* means all of them and stands alone")
    return items


DomainItem = Annotated[str, AfterValidator(_domain), Field(description="a domain's name, or * for every domain")]
ScopeItem = Annotated[str, AfterValidator(_scope), Field(json_schema_extra={"enum": list(_SCOPES)})]
Expires = Annotated[AwareDatetime | None, Field(description="null: in 365 days; at most 10 years from now")]


class TokenOut(BaseModel):
    """A token, without its text."""

    name: str
    domains: Annotated[list[str], Field(description='["*"]: every domain, also those that come later')]
    default_domain: Annotated[str | None, Field(description="of a call that names none; null: the service's")]
    scopes: Annotated[list[str], Field(description='["*"]: every scope')]
    created_at: datetime
    expires_at: datetime
    last_used_at: Annotated[datetime | None, Field(description="to the minute")]
    old_valid_until: Annotated[datetime | None, Field(description="after a rotation: until when the text before it is valid")]
    id: Annotated[UUID, Field(description="the token_id of its calls in the audit; a later token of this name has another one")]


class TokenIn(BaseModel):
    """A new token."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={"example": {"name": "phone-book", "domains": ["example.com"], "scopes": ["mailbox:read"]}},
    )

    name: Annotated[str, AfterValidator(_name), Field(description="1 to 64 of 0-9 A-Z a-z . _ @ -, a letter or digit first")]
    domains: Annotated[list[DomainItem], AfterValidator(_alone), Field(min_length=1, max_length=_MOST_DOMAINS)]
    scopes: Annotated[list[ScopeItem], AfterValidator(_alone), Field(min_length=1, max_length=len(_SCOPES))]
    default_domain: Annotated[DomainItem | None, Field(description="null: the first of domains, or the service's")] = None
    expires_at: Expires = None


class RotationIn(BaseModel):
    """How a token's text is replaced."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, json_schema_extra={"example": {"overlap": 3600}})

    overlap: Annotated[
        int,
        Field(ge=0, le=int(LONGEST_OVERLAP.total_seconds()), description="seconds for which the old text stays valid"),
    ] = int(OVERLAP.total_seconds())
    expires_at: Expires = None


class TokenMade(BaseModel):
    """A token with its text, which is shown this once."""

    data: TokenOut
    token: str
    message: Literal["successfully"] = "successfully"


class TokenRoutes:
    """List, create, rotate and revoke tokens."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    @get("/v1/token", summary="List tokens by name", scope=Scope.ADMIN)
    async def list(self, request: Request, query: Paging) -> Page[TokenOut]:
        """A page of tokens."""
        found, total = await self._tokens.page(request.grant, limit=query.limit, offset=query.offset)
        return Page[TokenOut](data=[_out(token) for token in found], limit=query.limit, offset=query.offset, total=total)

    @post("/v1/token", summary="Create a token; its text is shown this once", status=201, scope=Scope.ADMIN)
    async def create(self, request: Request, body: TokenIn) -> Response[TokenMade]:
        """The token and its text."""
        made, text = await self._tokens.create(request.grant, _new(body))
        return Response(TokenMade(data=_out(made), token=text), headers={"Location": f"/v1/token/{made.name}"})

    @get("/v1/token/{name}", summary="Get a token", scope=Scope.ADMIN)
    async def show(self, request: Request) -> TokenOut:
        """The token without its text."""
        return _out(await self._tokens.get(request.grant, request.path["name"]))

    @post("/v1/token/{name}/rotate", summary="Give a token a new text; the old one stays valid for a while", scope=Scope.ADMIN)
    async def rotate(self, request: Request, body: RotationIn) -> TokenMade:
        """The token and its new text."""
        shown, text = await self._tokens.rotate(
            request.grant, request.path["name"], overlap=timedelta(seconds=body.overlap), expires_at=body.expires_at
        )
        return TokenMade(data=_out(shown), token=text)

    @delete("/v1/token/{name}", summary="Revoke a token; every copy of the service refuses it at once", scope=Scope.ADMIN)
    async def revoke(self, request: Request) -> Done:
        """Done."""
        await self._tokens.revoke(request.grant, request.path["name"])
        return Done()


def _new(body: TokenIn) -> NewToken:
    default = body.default_domain
    if default == EVERY:
        raise Invalid.field("default_domain", "must be one domain")
    domains = None if body.domains == [EVERY] else tuple(Domain(domain) for domain in body.domains)
    return NewToken(
        name=body.name,
        domains=domains,
        scopes=None if body.scopes == [EVERY] else frozenset(Scope(scope) for scope in body.scopes),
        default_domain=Domain(default) if default else None,
        expires_at=body.expires_at,
    )


def _out(token: TokenInfo) -> TokenOut:
    return TokenOut(
        name=token.name,
        domains=[EVERY] if token.domains is None else sorted(token.domains),
        default_domain=token.default_domain,
        scopes=[EVERY] if token.scopes is None else sorted(token.scopes),
        created_at=token.created_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
        old_valid_until=token.old_valid_until,
        id=token.id,
    )
