"""The Event Socket bridge against a peer that misbehaves in every way a switch, a network or a stranger can."""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import structlog

from app.addressing import Domain, Extension, MailboxAddress
from app.errors import Invalid, SwitchRefused, SwitchUnavailable
from app.switch import commands
from app.switch.esl import event_socket as esl
from app.switch.esl.event_socket import Event, EventSocket
from app.switch.mwi import MessageWaiting
from tests.support.scripted_peer import ScriptedPeer, Session, api_response, command_reply, event

BOX = MailboxAddress(Extension.parse("101"), Domain.parse("lab.local"))
SUBSCRIPTION = "event plain MESSAGE_WAITING RELOADXML CUSTOM vm::maintenance"
PASSWORD = "Sw0rd-of-the-switch"

Connect = Callable[..., Awaitable[EventSocket]]


@pytest.fixture
async def peer() -> AsyncIterator[ScriptedPeer]:
    """A peer that behaves until it is told otherwise."""
    peer = ScriptedPeer(PASSWORD)
    await peer.start()
    yield peer
    await peer.stop()


@pytest.fixture
async def connect(peer: ScriptedPeer) -> AsyncIterator[Connect]:
    """Start an EventSocket with limits fit for a test, and close it in the end."""
    started: list[EventSocket] = []

    async def start(*, wait: bool = True, host: str = "127.0.0.1", password: str = PASSWORD, **limits: Any) -> EventSocket:
        quick: dict[str, Any] = {"command_timeout": 0.5, "connect_timeout": 0.5, "first_backoff": 0.02, "longest_backoff": 0.1}
        switch = EventSocket(host, peer.port, password, **(quick | limits))
        started.append(switch)
        switch.start()
        if wait:
            assert await switch.wait_connected(5), switch.error
        return switch

    yield start
    for switch in started:
        await switch.close()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the bridge logs."""
    monkeypatch.setattr(esl, "log", structlog.get_logger())  # one that has not cached its configuration
    with structlog.testing.capture_logs() as lines:
        yield lines


async def until(true: Callable[[], bool], within: float = 5.0) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.005)


async def ask(switch: EventSocket, name: str, **limits: float) -> str:
    return (await switch.command(commands.global_getvar(name), **limits)).text


async def test_a_command_gets_its_reply(connect: Connect) -> None:
    switch = await connect()

    assert await ask(switch, "domain") == "value of domain"
    assert switch.connected
    assert switch.error == ""


async def test_a_thousand_commands_at_once_keep_their_order_and_each_gets_its_own_reply(
    peer: ScriptedPeer, connect: Connect
) -> None:
    switch = await connect(command_timeout=10)
    names = [f"n{number}" for number in range(1000)]

    answers = await asyncio.gather(*(ask(switch, name) for name in names))

    assert answers == [f"value of {name}" for name in names]
    assert peer.commands()[-1000:] == [f"api global_getvar {name}" for name in names]


async def test_replies_that_come_in_pieces_between_events_find_their_commands(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect(command_timeout=10)
    heard: list[Event] = []
    switch.on_event(heard.append)

    async def in_pieces(session: Session) -> None:
        name = session.commands[-1].split()[-1]
        data = event("RELOADXML") + api_response(f"é {name}\n" * 50) + event("RELOADXML")
        for start in range(0, len(data), 37):
            await session.send(data[start : start + 37])
            await asyncio.sleep(0)

    peer.on("api global_getvar", in_pieces)

    answers = await asyncio.gather(*(ask(switch, f"n{number}") for number in range(30)))
    await until(lambda: len(heard) == 60)

    assert answers == [f"é n{number}\n" * 50 for number in range(30)]


async def test_a_reply_of_megabytes_arrives_whole(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect(command_timeout=10)
    peer.on("api", lambda session: session.send(api_response("0123456789" * 300_000)))

    assert await ask(switch, "big") == "0123456789" * 300_000


async def test_a_silent_peer_costs_every_waiting_command_its_connection_and_the_next_one_works(
    peer: ScriptedPeer, connect: Connect
) -> None:
    switch = await connect(command_timeout=0.2)
    peer.silent = True

    results = await asyncio.gather(*(ask(switch, f"n{number}") for number in range(20)), return_exceptions=True)
    await until(lambda: not switch.connected)
    peer.behave()

    assert all(isinstance(result, SwitchUnavailable) for result in results)
    assert await switch.wait_connected(5)
    assert await ask(switch, "again") == "value of again"


async def test_a_peer_that_drops_in_the_middle_of_a_command_fails_what_waits_at_once(
    peer: ScriptedPeer, connect: Connect
) -> None:
    switch = await connect(command_timeout=60)

    async def drop(session: Session) -> None:
        session.writer.transport.abort()

    peer.on("api global_getvar n5", drop)

    results = await asyncio.gather(*(ask(switch, f"n{number}") for number in range(10)), return_exceptions=True)
    peer.behave()

    assert results[:5] == [f"value of n{number}" for number in range(5)]
    assert all(isinstance(result, SwitchUnavailable) for result in results[5:])
    assert await switch.wait_connected(5)
    assert await ask(switch, "again") == "value of again"


@pytest.mark.parametrize(
    "half",
    [
        b"Content-Type: api/resp",
        b"Content-Type: api/response\nContent-Length: 100\n",
        b"Content-Type: api/response\nContent-Length: 100\n\n",
        b"Content-Type: api/response\nContent-Length: 100\n\n+OK half",
    ],
)
@pytest.mark.parametrize("then_dropped", [False, True], ids=["silence", "drop"])
async def test_half_a_reply_is_no_reply(peer: ScriptedPeer, connect: Connect, half: bytes, then_dropped: bool) -> None:
    switch = await connect(command_timeout=60 if then_dropped else 0.2)

    async def send_half(session: Session) -> None:
        await session.send(half)
        if then_dropped:
            await session.hang_up()

    peer.on("api", send_half)

    with pytest.raises(SwitchUnavailable):
        await ask(switch, "x")
    await until(lambda: len(peer.sessions) == 2)
    peer.behave()

    assert await switch.wait_connected(5)
    assert await ask(switch, "again") == "value of again"


async def test_a_refusal_is_a_reply_and_the_connection_goes_on(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect()

    reply = await switch.command(commands.vm_fsdb_msg_purge(BOX))

    assert reply.text == "-ERR vm_fsdb_msg_purge Command not found!\n"
    assert not reply.ok
    assert switch.connected
    assert len(peer.sessions) == 1


async def test_a_refused_password_is_said_without_the_password_and_asked_again_only_after_the_longest_backoff(
    peer: ScriptedPeer, connect: Connect, logged: list[dict[str, Any]]
) -> None:
    switch = await connect(wait=False, password="not-the-Password", longest_backoff=0.2, first_backoff=0.01)

    await until(lambda: len(peer.sessions) == 3)
    with pytest.raises(SwitchUnavailable, match="refused the password"):
        await ask(switch, "x")

    assert not switch.connected
    assert switch.error == "the switch refused the password"
    assert [line["retry_in"] for line in logged] == [0.2]
    assert "not-the-Password" not in f"{logged}{switch.error}"


async def test_a_password_put_right_on_the_switch_is_found_out(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect(wait=False, password="new")
    await until(lambda: "password" in switch.error)

    peer.password = "new"

    assert await switch.wait_connected(5)


async def test_a_switch_that_turns_the_address_away_is_named_so(peer: ScriptedPeer, connect: Connect) -> None:
    peer.greeting = b"Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n"

    switch = await connect(wait=False)

    await until(lambda: "acl" in switch.error)


async def test_a_refused_subscription_is_not_a_connection(peer: ScriptedPeer, connect: Connect) -> None:
    peer.on("event", lambda session: session.send(command_reply("-ERR permission denied")))

    switch = await connect(wait=False)

    await until(lambda: "subscription" in switch.error)
    assert not switch.connected


async def test_after_a_restart_of_the_switch_it_is_subscribed_again_and_says_so(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect(wait=False)
    connects: list[str] = []
    heard: list[Event] = []
    switch.on_connect(lambda: connects.append(switch.error))
    switch.on_event(heard.append)
    await until(lambda: len(connects) == 1)

    await peer.stop()
    await until(lambda: not switch.connected)
    await peer.start()
    await until(lambda: len(connects) == 2)
    await peer.fire(event("MESSAGE_WAITING", {"MWI-Message-Account": "101%40lab.local"}))
    await until(lambda: len(heard) == 1)

    assert [session.commands[:2] for session in peer.sessions if session.subscribed] == [[f"auth {PASSWORD}", SUBSCRIPTION]] * 2
    assert connects == ["", ""]
    assert heard[0].headers["MWI-Message-Account"] == "101@lab.local"


async def test_commands_without_a_connection_fail_at_once_and_say_why(peer: ScriptedPeer, connect: Connect) -> None:
    await peer.stop()
    switch = await connect(wait=False, command_timeout=60)
    await until(lambda: "refused" in switch.error)

    with pytest.raises(SwitchUnavailable, match="Connection refused"):
        await ask(switch, "x")


async def test_a_caller_cannot_forge_an_event_through_the_caller_name(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect()
    heard: list[Event] = []
    switch.on_event(heard.append)
    name = "x%20%0AVM-User%3A%20102%0AEvent-Name%3A%20RELOADXML"

    await peer.fire(event("CUSTOM", {"Event-Subclass": "vm%3A%3Amaintenance", "VM-Caller-ID-Name": name, "VM-User": "101"}))
    await until(lambda: len(heard) == 1)

    assert (heard[0].name, heard[0].subclass) == ("CUSTOM", "vm::maintenance")
    assert heard[0].headers["VM-User"] == "101"


@pytest.mark.parametrize(
    "odd",
    [
        b"Content-Length: 5\n\nhello",
        b"X: y\n\n",
        b"\n\n\n",
        b"\r\n",
        b"no colon at all\n\n",
        b"\xff\xfe: \xff\n\n",
        b"Content-Type: text/event-json\nContent-Length: 2\n\n{}",
        b"Content-Type: log/data\nContent-Length: 3\nLog-Level: 7\n\nabc",
        b"Content-Type: text/event-plain\nContent-Length: 0\n\n",
        b"Content-Type: text/event-plain\n\n",
        b"Content-Type: text/event-plain\nContent-Length: 6\n\n\xff\xff\xff\xff\n\n",
    ],
)
async def test_what_cannot_be_understood_is_passed_over_and_the_reader_lives(
    peer: ScriptedPeer, connect: Connect, odd: bytes
) -> None:
    switch = await connect()

    await peer.fire(odd)

    assert await ask(switch, "x") == "value of x"
    assert len(peer.sessions) == 1


@pytest.mark.parametrize(
    "broken",
    [
        api_response("+OK to a question nobody asked"),
        command_reply("+OK"),
        b"Content-Type: text/event-plain\nContent-Length: -1\n\n",
        b"Content-Type: text/event-plain\nContent-Length: 99999999999\n\n",
        b"Content-Type: text/event-plain\nContent-Length: many\n\n",
        b"Content-Type: text/disconnect-notice\nContent-Length: 0\n\n",
        b"x" * (1 << 20) + b"x",
        b"x: y\n" * (1 << 18),
    ],
    ids=["unasked", "unasked reply", "negative", "huge", "no number", "goodbye", "endless line", "endless headers"],
)
async def test_a_stream_whose_position_is_in_doubt_is_given_up_for_a_new_one(
    peer: ScriptedPeer, connect: Connect, broken: bytes
) -> None:
    switch = await connect()

    await peer.fire(broken)
    await until(lambda: len(peer.sessions) == 2)

    assert await switch.wait_connected(5)
    assert await ask(switch, "x") == "value of x"


async def test_odd_bytes_in_a_reply_are_replaced(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect()
    peer.on("api", lambda session: session.send(api_response(b"caf\xe9")))

    assert await ask(switch, "x") == "caf\ufffd"


async def test_commands_are_answered_in_the_middle_of_a_flood_of_events(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect(command_timeout=5)
    heard: list[Event] = []
    switch.on_event(heard.append)
    block = event("CUSTOM", {f"VM-Header-{number}": "value%20of%20it" for number in range(40)}) * 50

    async def flood() -> None:
        while True:
            await peer.fire(block)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        flooding = group.create_task(flood())
        await until(lambda: len(heard) > 1000)
        answers = await asyncio.gather(*(ask(switch, f"n{number}") for number in range(10)))
        flooding.cancel()

    assert answers == [f"value of n{number}" for number in range(10)]


async def test_events_the_loop_cannot_keep_up_with_are_dropped_oldest_first(
    connect: Connect, logged: list[dict[str, Any]]
) -> None:
    switch = await connect()
    heard: list[Event] = []
    switch.on_event(heard.append)

    for number in range(12_000):
        switch.link_event(Event(str(number), "", {}))
    await until(lambda: len(heard) == 10_000)

    assert [heard[0].name, heard[-1].name] == ["2000", "11999"]
    assert {"event": "switch_events_dropped", "count": 2000}.items() <= logged[-1].items()


async def test_a_callback_that_raises_does_not_keep_the_others_from_hearing(
    peer: ScriptedPeer, connect: Connect, logged: list[dict[str, Any]]
) -> None:
    switch = await connect()
    heard: list[Event] = []
    switch.on_event(lambda event: heard[len(event.name)])  # type: ignore[arg-type, return-value]
    switch.on_event(heard.append)

    await peer.fire(event("RELOADXML"))
    await until(lambda: len(heard) == 1)

    assert logged[-1]["event"] == "switch_callback_failed"


async def test_a_peer_that_falls_silent_while_nothing_is_asked_is_noticed(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect(keepalive=0.1)
    await until(lambda: "api version" in peer.commands())
    assert switch.connected

    peer.silent = True

    await until(lambda: not switch.connected)
    assert switch.error != ""
    peer.behave()
    assert await switch.wait_connected(5)


async def test_a_peer_that_does_not_read_is_given_up(peer: ScriptedPeer, connect: Connect) -> None:
    peer.on("api global_getvar", peer.hang)
    switch = await connect(most_waiting=100_000, command_timeout=0.5)
    login = commands.vm_fsdb_auth_login(BOX, "1" * 4000)

    results = await asyncio.gather(ask(switch, "x"), *(switch.command(login) for _ in range(5000)), return_exceptions=True)
    await until(lambda: len(peer.sessions) > 1)

    assert {type(result) for result in results} == {SwitchUnavailable}


async def test_an_impatient_caller_behind_a_slow_command_does_not_shift_the_replies(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect(command_timeout=10)
    released = asyncio.Event()

    async def slow(session: Session) -> None:
        await released.wait()
        await session.send(api_response("+OK [Success]\n"))

    peer.on("api reloadxml", slow)
    reload = asyncio.create_task(switch.command(commands.reload_xml()))
    await until(lambda: "api reloadxml" in peer.commands())
    with pytest.raises(SwitchUnavailable, match="did not answer global_getvar"):
        await ask(switch, "impatient", timeout=0.05)
    cancelled = asyncio.create_task(ask(switch, "cancelled"))
    await asyncio.sleep(0)
    cancelled.cancel()
    patient = asyncio.create_task(ask(switch, "patient"))
    released.set()

    assert (await reload).text == "+OK [Success]\n"
    assert await patient == "value of patient"
    assert len(peer.sessions) == 1


async def test_too_many_waiting_commands_are_refused_by_number(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect(most_waiting=10, command_timeout=0.3)
    peer.silent = True
    waiting = [asyncio.create_task(ask(switch, f"n{number}")) for number in range(10)]
    await until(lambda: len(peer.commands()) >= 12)

    with pytest.raises(SwitchUnavailable, match="10 commands are waiting"):
        await ask(switch, "eleventh")
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_close_ends_what_waits_though_the_peer_is_silent(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect(command_timeout=60)
    peer.silent = True
    waiting = asyncio.create_task(ask(switch, "x"))
    await until(lambda: "api global_getvar x" in peer.commands())

    async with asyncio.timeout(2.5):
        await switch.close()

    with pytest.raises(SwitchUnavailable):
        await waiting
    with pytest.raises(SwitchUnavailable, match="closed"):
        await ask(switch, "y")


async def test_close_ends_an_attempt_to_connect(peer: ScriptedPeer, connect: Connect) -> None:
    peer.greeting = None
    switch = await connect(wait=False, connect_timeout=60)
    await until(lambda: len(peer.sessions) == 1)

    async with asyncio.timeout(2.5):
        await switch.close()

    assert not switch.connected


async def test_a_peer_that_never_greets_is_given_up_and_named(peer: ScriptedPeer, connect: Connect) -> None:
    peer.greeting = None

    switch = await connect(wait=False, connect_timeout=0.1)

    await until(lambda: "greeting" in switch.error)


async def test_a_name_that_does_not_resolve_in_time_neither_hangs_the_connection_nor_its_end(
    monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    answered = threading.Event()
    lookups: list[object] = []

    def stuck(host: str, *_: object, flags: int = 0, **__: object) -> list[object]:
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        lookups.append(host)
        answered.wait()
        return []

    monkeypatch.setattr("app.switch.esl.dial.socket.getaddrinfo", stuck)
    switch = await connect(wait=False, host="switch.example", connect_timeout=0.05)
    await until(lambda: "looking the name up" in switch.error)
    await until(lambda: "looking the name up" in switch.error)

    async with asyncio.timeout(2.5):
        await switch.close()
    answered.set()

    assert lookups == ["switch.example"]


async def test_a_name_that_does_not_exist_is_said(connect: Connect) -> None:
    switch = await connect(wait=False, host="no such host", connect_timeout=5)

    await until(lambda: switch.error.startswith("cannot connect: "), within=10)


@pytest.mark.parametrize("host", ["::1", "[::1]", "localhost"])
async def test_the_switch_may_be_an_ipv6_address_or_a_name(host: str, connect: Connect) -> None:
    listener = ScriptedPeer(PASSWORD)
    try:
        await listener.start("127.0.0.1" if host == "localhost" else "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    switch = EventSocket(host, listener.port, PASSWORD, first_backoff=0.02, longest_backoff=0.1)
    switch.start()
    try:
        assert await switch.wait_connected(5), switch.error
        assert await ask(switch, "x") == "value of x"
    finally:
        await switch.close()
        await listener.stop()


async def test_nothing_is_left_of_a_closed_connection(peer: ScriptedPeer) -> None:
    async def come_and_go() -> None:
        switch = EventSocket("localhost", peer.port, PASSWORD)
        switch.start()
        assert await switch.wait_connected(5)
        await ask(switch, "x")
        await switch.close()

    def left() -> tuple[int, int]:
        return sum(thread.name == "event-socket" for thread in threading.enumerate()), len(os.listdir("/proc/self/fd"))

    threads, _ = left()
    await come_and_go()
    await until(lambda: left()[0] <= threads)
    await asyncio.sleep(0.05)
    _, before = left()
    for _ in range(10):
        await come_and_go()

    await until(lambda: left()[0] <= threads)
    await until(lambda: left()[1] <= before)


async def test_neither_password_nor_pin_nor_caller_reaches_a_log(
    peer: ScriptedPeer, connect: Connect, logged: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    switch = await connect(command_timeout=0.2)
    heard: list[Event] = []
    switch.on_event(heard.append)
    await peer.fire(event("CUSTOM", {"VM-Action": "change-password", "VM-User-Password": "2468", "VM-User": "101"}))
    await until(lambda: len(heard) == 1)
    peer.silent = True

    with pytest.raises(SwitchUnavailable) as failure:
        await switch.command(commands.vm_fsdb_auth_login(BOX, "97531"))
    await until(lambda: not switch.connected)
    peer.behave()
    peer.password = "another"
    await until(lambda: "password" in switch.error)

    written = f"{logged}{caplog.text}{failure.value}{switch.error}{heard[0].headers}"
    assert "VM-User-Password" not in heard[0].headers
    assert not any(secret in written for secret in (PASSWORD, "97531", "2468"))


@pytest.mark.parametrize("password", ["x\napi shutdown", "x\r", "x\0"])
def test_a_password_cannot_hold_a_command(password: str) -> None:
    with pytest.raises(Invalid) as refusal:
        EventSocket("127.0.0.1", 8021, password)

    assert "shutdown" not in str(refusal.value)


async def test_the_lamp_is_lit_by_what_the_switch_counts(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect()
    peer.on("api vm_boxcount", lambda session: session.send(api_response("2:1:0:0")))

    await MessageWaiting(switch).refresh(BOX)

    assert peer.commands()[-1] == (
        "sendevent MESSAGE_WAITING\nMWI-Messages-Waiting: yes\nMWI-Message-Account: 101@lab.local\nMWI-Voice-Message: 2/1"
    )


async def test_the_lamp_of_a_switch_that_cannot_count_is_left_alone(peer: ScriptedPeer, connect: Connect) -> None:
    switch = await connect()

    with pytest.raises(SwitchRefused):
        await MessageWaiting(switch).refresh(BOX)

    assert not any(command.startswith("sendevent") for command in peer.commands())
