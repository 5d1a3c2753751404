"""PINs over HTTP: what a domain's policy says of new ones, and PINs that the service makes."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from app.access.scopes import Scope
from tests.support.access_tokens import make_token
from tests.support.pbx import DOMAIN, Site

STRONG = "582031"
OTHER_STRONG = "940275"


@pytest.fixture(autouse=True)
async def policy(api: Site) -> AsyncIterator[None]:
    """The domain has the default policy again after each test."""
    yield
    await set_policy(api, None, None)


async def set_policy(api: Site, policy: str | None, length: int | None = 6) -> None:
    """What the domain asks of new PINs."""
    async with api.client.patch(f"/v1/domain/{DOMAIN}", json={"pin_policy": policy, "pin_min_length": length}) as answer:
        assert answer.status == 200


async def send(
    api: Site, method: str, path: str, body: Mapping[str, Any] | None = None, token: str | None = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    """Status and body of a call."""
    if token:
        headers["Authorization"] = f"Bearer {token}"
    async with api.client.request(method, path, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


def new(extension: str, pin: str) -> dict[str, Any]:
    return {"extension": extension, "password": pin, "enabled": True}


@pytest.mark.parametrize("pin", ["1", "٥٨٢٠٣١", "123456", "000000", "$${x}\"'", "🎉" * 64])
async def test_a_weak_pin_is_taken_with_a_warning_that_does_not_tell_it(api: Site, extension: str, pin: str) -> None:
    status, made = await send(api, "POST", "/v1/voicemail", new(extension, pin))

    assert (status, list(made)) == (201, ["data", "message", "warnings"])
    assert {warning["field"] for warning in made["warnings"]} == {"password"}
    assert len(pin) < 6 or all(pin not in warning["message"].replace("such as 123456", "") for warning in made["warnings"])
    assert made["data"]["password"] == pin


@pytest.mark.parametrize("pin", [STRONG, "005820"])
async def test_a_good_pin_is_taken_as_it_is_and_there_is_no_warning(api: Site, extension: str, pin: str) -> None:
    status, made = await send(api, "POST", "/v1/voicemail", new(extension, pin))

    assert (status, list(made)) == (201, ["data", "message"])
    assert made["data"]["password"] == pin


async def test_off_says_nothing(api: Site, extension: str) -> None:
    await set_policy(api, "off")

    _, made = await send(api, "POST", "/v1/voicemail", new(extension, "1"))

    assert "warnings" not in made


@pytest.mark.parametrize("pin", ["1234", "123456", "777777", "٥٨٢٠٣١", "abc123def"])
async def test_refuse_is_422_in_every_call_and_nothing_is_changed(api: Site, extension: str, pin: str) -> None:
    await send(api, "POST", "/v1/voicemail", new(extension, STRONG))
    await set_policy(api, "refuse")

    for method, path, body in (
        ("POST", "/v1/voicemail", new(f"{extension}9", pin)),
        ("PUT", f"/v1/voicemail/{extension}", {"password": pin, "enabled": True}),
        ("PATCH", f"/v1/voicemail/{extension}", {"password": pin}),
    ):
        status, problem = await send(api, method, path, body)
        assert (status, {error["field"] for error in problem["errors"]}) == (422, {"password"})
        assert pin in ("1234", "123456") or pin not in str(problem)
    assert (await api.get(f"/v1/voicemail/{extension}"))["password"] == STRONG
    assert (await send(api, "GET", f"/v1/voicemail/{extension}9"))[0] == 404
    assert (await send(api, "PUT", f"/v1/voicemail/{extension}", {"password": OTHER_STRONG, "enabled": True}))[0] == 200


async def test_the_length_is_the_domain_s(api: Site, extension: str) -> None:
    await set_policy(api, "refuse", 4)
    assert (await send(api, "POST", "/v1/voicemail", new(extension, "5820")))[0] == 201
    await set_policy(api, "refuse", 8)

    assert (await send(api, "PATCH", f"/v1/voicemail/{extension}", {"password": STRONG}))[0] == 422
    assert (await send(api, "PATCH", f"/v1/voicemail/{extension}", {"password": "58203194"}))[0] == 200


async def test_an_old_weak_pin_may_be_sent_back_and_so_may_none(api: Site, extension: str) -> None:
    mailbox = await api.create(extension, password="4321")
    await set_policy(api, "refuse")

    for body in (mailbox, mailbox | {"password": ""}):
        status, done = await send(api, "PUT", f"/v1/voicemail/{extension}", body)
        assert (status, "warnings" in done) == (200, False)
    assert (await api.get(f"/v1/voicemail/{extension}"))["password"] == "4321"


async def test_the_extension_is_no_pin(api: Site, extension: str) -> None:
    _, made = await send(api, "POST", "/v1/voicemail", new(extension, extension))

    assert any("extension" in warning["message"] for warning in made["warnings"])


async def test_the_service_makes_a_pin_that_the_domain_takes_and_that_opens_the_mailbox(api: Site, extension: str) -> None:
    await api.create(extension)
    await set_policy(api, "refuse", 8)

    status, made = await send(api, "POST", f"/v1/voicemail/{extension}/pin")

    assert (status, list(made)) == (200, ["message", "directory", "password"])
    assert len(made["password"]) == 8
    assert made["password"].isdigit()
    mailbox = await api.get(f"/v1/voicemail/{extension}")
    assert mailbox["password"] == made["password"]
    _, again = await send(api, "POST", f"/v1/voicemail/{mailbox['id']}/pin")
    assert again["password"] != made["password"]


async def test_who_may_not_read_pins_is_not_shown_the_new_one(api: Site, extension: str) -> None:
    await api.create(extension)
    writer = await make_token(api.dsn, f"writer-{extension}", [DOMAIN], [Scope.MAILBOX_WRITE])

    status, made = await send(api, "POST", f"/v1/voicemail/{extension}/pin", token=writer)

    assert (status, made["password"]) == (200, "")
    assert (await api.get(f"/v1/voicemail/{extension}"))["password"] != "4321"


async def test_a_pin_is_made_only_for_the_mailbox_that_was_read(api: Site, extension: str) -> None:
    await api.create(extension)
    async with api.client.get(f"/v1/voicemail/{extension}") as answer:
        version = answer.headers["ETag"]

    assert (await send(api, "POST", f"/v1/voicemail/{extension}/pin", **{"If-Match": '"other"'}))[0] == 412
    assert (await send(api, "POST", f"/v1/voicemail/{extension}/pin", **{"If-Match": version}))[0] == 200


async def test_no_pin_is_in_the_log(api: Site, extension: str, capfd: pytest.CaptureFixture[str]) -> None:
    await send(api, "POST", "/v1/voicemail", new(extension, "1234509876"))
    _, made = await send(api, "POST", f"/v1/voicemail/{extension}/pin")

    output, errors = capfd.readouterr()
    assert "1234509876" not in output + errors
    assert made["password"] not in output + errors


async def test_the_description_of_the_api_has_the_policy(api: Site) -> None:
    async with aiohttp.ClientSession(api.client._base_url) as client, client.get("/openapi.json") as answer:
        document = await answer.json()

    schemas = document["components"]["schemas"]
    warned = [schema for schema in schemas.values() if "warnings" in schema.get("properties", {})]
    assert len(warned) == 2
    assert not any("warnings" in schema["required"] for schema in warned)
    assert schemas["PinPolicy"]["enum"] == ["off", "warn", "refuse"]
    assert document["paths"]["/v1/voicemail/{key}/pin"]["post"]["operationId"] == "generatePin"
