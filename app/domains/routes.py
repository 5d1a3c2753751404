"""The HTTP side of domains. null is the service's own setting; PUT resets what is left out to it, PATCH leaves that as it is."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app import fields as shared
from app.access.scopes import Scope
from app.addressing import Domain
from app.domains import fields
from app.domains.model import DomainSettings, HostedDomain, PinPolicy
from app.domains.service import Domains
from app.errors import Invalid
from app.http.done import Done
from app.http.paging import Page, Paging
from app.http.routing import Request, Response, delete, get, patch, post, put


def _name(text: str) -> str:
    try:
        return Domain.parse(text)
    except Invalid as error:
        raise ValueError(error.errors[0].message) from None


def _described(text: str | None) -> str:
    return shared.description(text or "")


_EXAMPLE: JsonDict = {"name": "example.com", "time_zone": "Asia/Ho_Chi_Minh", "mail_from": "voicemail@example.com"}
NameField = Annotated[str, AfterValidator(_name), Field(description="1 to 253 of 0-9 A-Z a-z . _ -, as the switch writes it")]
Description = Annotated[str | None, AfterValidator(_described), Field(description="up to 1000 characters")]
Zone = Annotated[str | None, AfterValidator(fields.time_zone), Field(description="a name such as Asia/Ho_Chi_Minh")]
Language = Annotated[str | None, AfterValidator(fields.language), Field(description="of mails: a tag such as en, vi or pt-BR")]
Address = Annotated[str | None, AfterValidator(fields.address), Field(description="one mail address")]
Policy = Annotated[
    str | None,
    AfterValidator(fields.pin_policy),
    Field(
        description="of a new PIN that is easily guessed: off takes it, warn takes it and says so, refuse is 422; null: warn",
        json_schema_extra={"enum": [*PinPolicy, "", None]},
    ),
]
MinLength = Annotated[
    int | None,
    AfterValidator(fields.pin_min_length),
    Field(
        description="how many digits a new PIN should have, which pin_policy watches over; null: 6",
        json_schema_extra={"minimum": fields.SHORTEST_PIN, "maximum": fields.LONGEST_PIN},
    ),
]
MailDomains = Annotated[
    list[Annotated[str, Field(json_schema_extra={"maxLength": 253})]] | None,
    AfterValidator(fields.mail_domains),
    Field(
        description="the only hosts that mails may go to, each by its own name; mail_to with another one is 422; null: any",
        json_schema_extra={"maxItems": fields.MOST_MAIL_DOMAINS},
    ),
]
TrashDays = Annotated[
    int | None,
    AfterValidator(fields.trash_days),
    Field(
        description="for how many days a deleted message can be restored; null: VOICEMAIL_TRASH_DAYS",
        json_schema_extra={"minimum": fields.LEAST_TRASH_DAYS, "maximum": fields.MOST_TRASH_DAYS},
    ),
]
SenderName = Annotated[str | None, AfterValidator(fields.sender_name), Field(description="up to 100 characters")]


class DomainOut(BaseModel):
    """A domain. null: the service's own setting."""

    name: str
    description: str
    time_zone: str | None
    language: str | None
    mail_from: str | None
    mail_from_name: str | None
    reply_to: str | None
    pin_policy: Annotated[PinPolicy, Field(description="what happens to a new PIN that is easily guessed")]
    pin_min_length: Annotated[int, Field(description="how many digits a new PIN should have")]
    mail_domains: Annotated[list[str], Field(description="the only hosts that mails may go to; []: any")]
    trash_days: Annotated[int | None, Field(description="for how many days a deleted message can be restored")]
    default: Annotated[bool, Field(description="whether it is VOICEMAIL_DOMAIN, which is never deleted")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    description: Description = ""
    time_zone: Zone = None
    language: Language = None
    mail_from: Address = None
    mail_from_name: SenderName = None
    reply_to: Address = None
    pin_policy: Policy = PinPolicy.WARN
    pin_min_length: MinLength = DomainSettings().pin_min_length
    mail_domains: MailDomains = None
    trash_days: TrashDays = None
    default: Annotated[Any, Field(description="ignored")] = None


class DomainIn(_Settings):
    """A new domain."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    name: NameField


class DomainChangeIn(_Settings):
    """All settings of a domain. The body of a GET may be sent back; ``name`` must then be the domain's own."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"time_zone": "Asia/Ho_Chi_Minh", "mail_from": "voicemail@example.com"}}
    )

    NULL_IS_A_VALUE: ClassVar[bool] = True  # null is the service's own setting, and not as if the field were left out

    name: Annotated[str | None, Field(description="the domain's own")] = None


class DomainCreated(BaseModel):
    """The new domain."""

    data: DomainOut
    message: Literal["successfully"] = "successfully"


class DomainRoutes:
    """List, create, change and delete domains."""

    def __init__(self, domains: Domains) -> None:
        self._domains = domains

    @get("/v1/domain", summary="List domains by name", scope=Scope.ADMIN)
    async def list(self, request: Request, query: Paging) -> Page[DomainOut]:
        """A page of domains."""
        found, total = await self._domains.page(request.grant, limit=query.limit, offset=query.offset)
        return Page[DomainOut](data=[self._out(domain) for domain in found], limit=query.limit, offset=query.offset, total=total)

    @post("/v1/domain", summary="Create a domain", status=201, scope=Scope.ADMIN)
    async def create(self, request: Request, body: DomainIn) -> Response[DomainCreated]:
        """The new domain."""
        made = await self._domains.create(request.grant, HostedDomain(Domain(body.name), _settings(body)))
        return Response(DomainCreated(data=self._out(made)), headers={"Location": f"/v1/domain/{made.name}"})

    @get("/v1/domain/{name}", summary="Get a domain", scope=Scope.ADMIN)
    async def show(self, request: Request) -> DomainOut:
        """The domain itself."""
        return self._out(await self._domains.get(request.grant, request.path["name"]))

    @put("/v1/domain/{name}", summary="Set all settings of a domain", scope=Scope.ADMIN)
    async def replace(self, request: Request, body: DomainChangeIn) -> Done:
        """Done; what was left out is the service's own setting again."""
        _check_name(request, body)
        await self._domains.replace(request.grant, request.path["name"], _settings(body))
        return Done()

    @patch("/v1/domain/{name}", summary="Set some settings of a domain", scope=Scope.ADMIN)
    async def change(self, request: Request, body: DomainChangeIn) -> Done:
        """Done; what was left out stays as it is."""
        _check_name(request, body)
        given = body.model_fields_set - {"name", "default"}
        await self._domains.change(request.grant, request.path["name"], {name: getattr(body, name) for name in given})
        return Done()

    @delete("/v1/domain/{name}", summary="Delete a domain without mailboxes and tokens", scope=Scope.ADMIN)
    async def remove(self, request: Request) -> Done:
        """Done."""
        await self._domains.delete(request.grant, request.path["name"])
        return Done()

    def _out(self, domain: HostedDomain) -> DomainOut:
        settings = domain.settings
        return DomainOut(
            name=domain.name,
            description=settings.description,
            time_zone=settings.time_zone,
            language=settings.language,
            mail_from=settings.mail_from,
            mail_from_name=settings.mail_from_name,
            reply_to=settings.reply_to,
            pin_policy=settings.pin_policy,
            pin_min_length=settings.pin_min_length,
            mail_domains=list(settings.mail_domains),
            trash_days=settings.trash_days,
            default=domain.name == self._domains.default,
        )


def _settings(body: _Settings) -> DomainSettings:
    return DomainSettings(
        description=body.description or "",
        time_zone=body.time_zone,
        language=body.language,
        mail_from=body.mail_from,
        mail_from_name=body.mail_from_name,
        reply_to=body.reply_to,
        pin_policy=fields.pin_policy(body.pin_policy),
        pin_min_length=fields.pin_min_length(body.pin_min_length),
        mail_domains=tuple(body.mail_domains or ()),
        trash_days=body.trash_days,
    )


def _check_name(request: Request, body: DomainChangeIn) -> None:
    if body.name is not None and body.name != request.path["name"]:
        raise Invalid.field("name", "must be the domain's own")
