"""POSTs with an Idempotency-Key and kill -9, again and again: each is done once, whatever became of its answer."""

from app.database.pool import Pool
from tests.support import repeated_posts
from tests.support.children import run_script

REQUESTS, KILLS = 60, 8


async def test_a_request_that_is_sent_again_after_a_crash_is_never_done_twice(database: str, pool: Pool) -> None:
    status, output = await run_script(repeated_posts.__file__, database, str(REQUESTS), str(KILLS))

    assert status == 0, output.decode()
    _, made, _, lost = output.decode().splitlines()[-1].split()
    assert int(made) + int(lost) == REQUESTS
    assert int(lost) <= KILLS * repeated_posts.AT_ONCE
    domains = await pool.fetch("SELECT split_part(name, '-', 1), count(*) FROM voicemail.domain WHERE name LIKE 'n%' GROUP BY 1")
    assert {tuple(row) for row in domains} == {(f"n{number}", 1) for number in range(REQUESTS)}
