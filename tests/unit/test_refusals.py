"""Refused requests are counted in memory, and however many come, few rows are written."""

from collections.abc import Sequence
from uuid import uuid4

import pytest

from app.access.audit.model import AuditEntry, Result
from app.access.audit.refusals import ROWS_A_MINUTE, Refusals
from app.access.grant import NOBODY, Grant
from app.addressing import Domain
from app.errors import Conflict, DatabaseUnavailable, Forbidden, InvalidToken, NotFound, Unauthorized

TOKEN = Grant("weak", frozenset(), Domain("a.example"), frozenset(), token_id=uuid4())


class Table:
    """Takes rows, unless it is away, and says what time it is."""

    def __init__(self) -> None:
        self.rows: list[AuditEntry] = []
        self.now = 600.0
        self.away = False

    async def write(self, entries: Sequence[AuditEntry]) -> None:
        if self.away:
            raise DatabaseUnavailable
        self.rows += entries

    def counts(self) -> dict[tuple[str, str, str], int]:
        return {(row.result.value, row.name, row.address): row.count for row in self.rows}


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def refusals(table: Table) -> Refusals:
    return Refusals(table.write, lambda: table.now)


async def test_a_minute_is_written_when_it_is_over(refusals: Refusals, table: Table) -> None:
    for _ in range(3):
        refusals.note(Unauthorized(), NOBODY, "192.0.2.1")
    refusals.note(InvalidToken(), NOBODY, "192.0.2.2")
    refusals.note(Forbidden(), TOKEN, "192.0.2.1")
    refusals.note(NotFound(), TOKEN, "192.0.2.1")
    refusals.note(Conflict(), TOKEN, "192.0.2.1")

    await refusals.flush()
    assert table.rows == []
    table.now += 60
    refusals.note(Unauthorized(), NOBODY, "192.0.2.1")
    await refusals.flush()

    assert table.counts() == {
        ("unauthorized", "", "192.0.2.1"): 3, ("unauthorized", "", "192.0.2.2"): 1,
        ("forbidden", "weak", "192.0.2.1"): 1, ("not_found", "weak", "192.0.2.1"): 1,
    }  # fmt: skip
    assert {row.at.timestamp() for row in table.rows if row.at} == {600.0}
    assert {row.token_id for row in table.rows if row.name} == {TOKEN.token_id}
    await refusals.flush(unfinished=True)
    assert len(table.rows) == 5


async def test_many_addresses_make_few_rows_and_no_request_is_left_out(refusals: Refusals, table: Table) -> None:
    for number in range(20_000):
        refusals.note(Unauthorized(), NOBODY, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    for _ in range(40):
        refusals.note(Unauthorized(), NOBODY, "10.0.0.7")
    refusals.note(NotFound(), TOKEN, "192.0.2.1")

    await refusals.flush(unfinished=True)

    assert len(table.rows) <= ROWS_A_MINUTE + len(Result)
    assert sum(row.count for row in table.rows) == 20_041
    assert table.counts()["unauthorized", "", "10.0.0.7"] == 41
    assert ("unauthorized", "", "") in table.counts()


async def test_a_token_s_own_refusals_are_not_crowded_out(refusals: Refusals, table: Table) -> None:
    refusals.note(NotFound(), TOKEN, "192.0.2.1")
    for number in range(200):
        for _ in range(2):
            refusals.note(Unauthorized(), NOBODY, f"10.0.0.{number}")

    await refusals.flush(unfinished=True)

    assert table.counts()["not_found", "weak", "192.0.2.1"] == 1


@pytest.mark.parametrize(
    ("address", "kept"),
    [("2001:db8::1", "2001:db8::/64"), ("2001:DB8:0:0:ffff::9", "2001:db8::/64"), ("fe80::1%eth0", "fe80::/64"),
     ("::ffff:192.0.2.1", "192.0.2.1"), ("", ""), ("x\n", "")],
)  # fmt: skip
async def test_an_address_is_counted_by_what_one_client_holds(refusals: Refusals, table: Table, address: str, kept: str) -> None:
    refusals.note(Unauthorized(), NOBODY, address)
    await refusals.flush(unfinished=True)

    assert [row.address for row in table.rows] == [kept]


async def test_while_the_database_is_away_rows_wait_and_do_not_grow_for_ever(refusals: Refusals, table: Table) -> None:
    table.away = True
    for _ in range(200):
        for number in range(60):
            refusals.note(Unauthorized(), NOBODY, f"10.0.0.{number}")
        table.now += 60
        with pytest.raises(DatabaseUnavailable):
            await refusals.flush()
    table.away = False
    await refusals.flush()

    assert len(table.rows) == 60 * ROWS_A_MINUTE
    assert max(row.at.timestamp() for row in table.rows if row.at) == 600 + 199 * 60
