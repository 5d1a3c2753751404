"""Bodies that are made to cost: the answer is small, and no shape of a megabyte is more than a problem."""

import orjson
import pytest

from tests.support.pbx import Site

SIZE = 1024 * 1024 - 100
START = b'{"password":"1","enabled":true,'


async def put(api: Site, extension: str, body: bytes) -> tuple[int, dict[str, object], int]:
    """The status of a PUT, the problem, and the size of the answer."""
    async with api.client.put(f"/v1/voicemail/{extension}", data=body, headers={"Content-Type": "application/json"}) as answer:
        raw = await answer.read()
        return answer.status, orjson.loads(raw), len(raw)


async def test_of_many_unknown_keys_a_hundred_are_listed_and_the_rest_is_counted(api: Site, extension: str) -> None:
    body = orjson.dumps({f"k{number}": 0 for number in range(90_000)} | {"enabled": 3})

    status, found, size = await put(api, extension, body)

    errors = found["errors"]
    assert isinstance(errors, list)
    assert (status, len(errors), found["more_errors"]) == (422, 100, 90_002 - 100)
    # What is wrong with the fields of the request comes first.
    assert errors[:2] == [
        {"field": "password", "message": "is required"},
        {"field": "enabled", "message": "must be true or false"},
    ]
    assert errors[2] == {"field": "k0", "message": "is not a field of this request"}
    assert list(found) == ["type", "title", "status", "detail", "errors", "more_errors"]
    assert size < 10_000


async def test_long_names_of_unknown_keys_are_cut(api: Site, extension: str) -> None:
    body = orjson.dumps({f"{number}" + "\x01" * 9000: 0 for number in range(19)})

    status, found, size = await put(api, extension, body)

    assert (status, "more_errors" in found) == (422, False)
    assert size < 40_000


async def test_a_few_unknown_keys_are_all_listed(api: Site, extension: str) -> None:
    status, found, _ = await put(api, extension, START + b'"one":1,"two":2}')

    assert (status, found["errors"]) == (
        422,
        [{"field": name, "message": "is not a field of this request"} for name in ("one", "two")],
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (START + b'"description":' + b"[" * 500_000 + b"]" * 500_000 + b"}", 400),
        (START + b'"description":[' + b",".join([b"[" * 100 + b"]" * 100] * 5000) + b"]}", 400),
        (START + b'"description":[' + b",".join([b"{}"] * 300_000) + b"]}", 400),
        (START + b'"description":[' + b",".join([b"0"] * 500_000) + b"]}", 400),
        (START + b'"description":[' + b",".join([b"0"] * 90_000) + b"]}", 422),
        (START + b'"description":' + b"[" * 400 + b"]" * 400 + b',"unknown":0}', 400),
        (START + b'"description":' + b"9" * 1_000_000 + b"}", 400),
        (START + b'"description":"' + b"a" * 1_000_000 + b'"}', 422),
        (START + b'"description":"' + b"\\u1234" * 170_000 + b'"}', 422),
        (START + b'"mail_to":"' + b"a@b.c," * 90_000 + b'"}', 422),
        (START + b'"time_zone":"' + b"A" * 1_000_000 + b'"}', 422),
        (START + b",".join([b'"":0'] * 90_000) + b"}", 422),
        (b"[" + b",".join([b"0"] * 500_000) + b"]", 400),
        (b" " * SIZE + b"{}", 422),
        (b"\xff" * SIZE, 400),
        (b'"' + b"a" * SIZE + b'"', 400),
        (b"{}" + b" " * SIZE * 2, 413),
    ],
)
async def test_a_megabyte_of_any_shape_is_a_small_problem(api: Site, extension: str, body: bytes, status: int) -> None:
    found = await put(api, extension, body)

    assert found[0] == found[1]["status"] == status
    assert found[2] < 2000


async def test_what_is_sent_back_and_ignored_may_be_anything(api: Site, extension: str) -> None:
    await api.create(extension)

    for directory in (None, 5, {"state": "applied", "detail": ""}, [[]] * 5000, {f"{number}": {} for number in range(5000)}):
        body = orjson.dumps({"password": "1", "enabled": True, "directory": directory})
        assert (await put(api, extension, body))[0] == 200


async def test_a_compressed_body_is_refused_as_such(api: Site, extension: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "x-unknown"}
    async with api.client.put(f"/v1/voicemail/{extension}", data=b"{}", headers=headers) as answer:
        assert (answer.status, answer.content_type) == (415, "application/problem+json")
