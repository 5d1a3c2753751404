"""The Event Socket itself: passwords, order, and what two commands in one write do."""

import asyncio

from tests.support.plain_client import PlainClient
from tests.support.switches_under_test import SwitchUnderTest


async def test_a_wrong_password_is_refused_and_the_connection_ends(switch: SwitchUnderTest) -> None:
    client = await PlainClient.connect(switch.port)

    reply = await client.command("auth wrong")

    assert reply.text == "-ERR invalid"
    await client.until(lambda found: found.closed)
    assert client.notice is not None
    await client.close()


async def test_nothing_is_answered_before_the_password(switch: SwitchUnderTest) -> None:
    client = await PlainClient.connect(switch.port)

    reply = await client.command("api status")

    assert reply["Content-Type"] == "command/reply"
    assert "-ERR" in reply.text
    await client.close()


async def test_replies_come_in_the_order_of_the_commands(switch: SwitchUnderTest) -> None:
    await switch.client.send(b"".join(b"api user_data %d@lab.local attr id\n\n" % (101 + n % 2) for n in range(200)))

    replies = [(await switch.client.reply()).body.decode() for _ in range(200)]

    assert replies == ["101", "102"] * 100


async def test_a_command_may_come_in_pieces(switch: SwitchUnderTest) -> None:
    for piece in (b"api ver", b"sion\n", b"\n"):
        await switch.client.send(piece)
        await asyncio.sleep(0.05)

    assert (await switch.client.reply()).body.startswith(b"FreeSWITCH Version 1.10")


async def test_a_job_in_the_background_is_acknowledged_first_and_answered_by_an_event(switch: SwitchUnderTest) -> None:
    reply = await switch.client.command("bgapi version\nJob-UUID: a-job-of-mine")

    assert reply.text == "+OK Job-UUID: a-job-of-mine"
    done = await switch.client.event("BACKGROUND_JOB", Job_UUID="a-job-of-mine")
    assert done.body.startswith("FreeSWITCH Version 1.10")


async def test_a_client_hears_only_what_it_asked_for(switch: SwitchUnderTest) -> None:
    deaf = await switch.connect()
    choosy = await switch.connect("event plain MESSAGE_WAITING")

    await switch.inject("101")
    await choosy.event("MESSAGE_WAITING")

    assert deaf.events == []
    assert {event.name for event in choosy.events} == {"MESSAGE_WAITING"}


async def test_goodbye_ends_the_connection(switch: SwitchUnderTest) -> None:
    client = await switch.connect()

    await client.command("exit")

    await client.until(lambda found: found.closed)
