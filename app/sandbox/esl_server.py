"""The server's side of the Event Socket protocol, as mod_event_socket speaks it."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import uuid4

from app.sandbox.events import EventSource, SwitchEvent

# Runs one API command with its arguments and gives the text of its reply.
Api = Callable[[str, str], Awaitable[str]]

_GOODBYE = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
_LONGEST = 64 * 1024 * 1024  # bytes of one command


class Session:
    """One client, from its connect to its end."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, password: str, api: Api, events: EventSource
    ) -> None:
        self._reader, self._writer = reader, writer
        self._password, self._api, self._events = password, api, events
        self._known = False
        self._names: set[str] = set()
        self._subclasses: set[str] = set()
        self._filters: list[tuple[str, str]] = []
        self._background: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve the client until it leaves or is thrown out."""
        queue = self._events.listen()
        telling = asyncio.ensure_future(self._tell(queue))
        try:
            self._write(b"Content-Type: auth/request\n\n")
            while (command := await self._read()) is not None:
                if not await self._obey(*command):
                    break
                await self._writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # the client has disconnected, or does not speak this protocol
        finally:
            self._events.forget(queue)
            telling.cancel()
            for task in self._background:
                task.cancel()
            self._writer.close()

    async def _read(self) -> tuple[str, list[tuple[str, str]], str] | None:
        """The next command: its first line, its headers and its body."""
        lines: list[str] = []
        while True:
            raw = await self._reader.readline()
            if not raw:
                return None
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if line:
                lines.append(line)
            elif lines:
                break
        headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        length = next((int(value) for name, value in headers if name.lower() == "content-length" and value.isdigit()), 0)
        body = await self._reader.readexactly(length) if 0 < length <= _LONGEST else b""
        return lines[0].strip(), headers, body.decode("utf-8", "replace")

    async def _obey(self, line: str, headers: list[tuple[str, str]], body: str) -> bool:
        """Carry out one command; False if the connection ends with it."""
        verb, _, rest = line.partition(" ")
        if not self._known:
            return self._auth(verb, rest)
        match verb:
            case "api":
                name, _, arguments = rest.partition(" ")
                reply = await self._api(name, arguments.strip())
                self._answer_api(reply or "-ERR no reply\n")
            case "bgapi":
                self._in_background(rest, dict(headers).get("Job-UUID") or str(uuid4()))
            case "exit":
                self._reply("+OK bye")
                self._goodbye()
                return False
            case _:
                self._reply(self._setting(verb, rest.split(), rest, headers, body))
        return True

    def _auth(self, verb: str, given: str) -> bool:
        if verb == "exit":
            self._reply("+OK bye")
        elif verb != "auth":
            self._reply("-ERR command not found")
            return True
        elif hmac.compare_digest(given.encode(), self._password.encode()):
            self._known = True
            self._reply("+OK accepted")
            return True
        else:
            self._reply("-ERR invalid")
        self._goodbye()
        return False

    def _setting(self, verb: str, words: list[str], rest: str, headers: list[tuple[str, str]], body: str) -> str:
        """What changes this session, or fires an event."""
        match verb:
            case "event":
                reply = self._subscribe(words)
            case "nixevent" | "noevents":
                reply = self._unsubscribe(verb, words)
            case "filter":
                name, _, value = rest.partition(" ")
                self._filters.append((name, value))
                reply = f"+OK filter added. [{name}]=[{value}]"
            case "sendevent":
                reply = self._send_event(words, headers, body)
            case "linger" | "nolinger" | "log" | "nolog" | "divert_events" | "myevents":
                reply = "+OK"
            case _:
                reply = "-ERR command not found"
        return reply

    def _unsubscribe(self, verb: str, words: list[str]) -> str:
        if verb == "noevents" or words[:1] == ["all"]:
            self._names, self._subclasses = set(), set()
        else:
            self._names -= {*words}
        return "+OK events nixed" if verb == "nixevent" else "+OK no longer listening for events"

    def _subscribe(self, words: list[str]) -> str:
        kind = words[0] if words[:1] and words[0] in ("plain", "xml", "json") else "plain"
        names = words[1:] if words[:1] == [kind] else words
        if not names:
            return "-ERR no keywords supplied"
        if "CUSTOM" in names:
            index = names.index("CUSTOM")
            self._subclasses.update(names[index + 1 :])
            names = names[:index]
        self._names.update(name.upper() for name in names)
        return f"+OK event listener enabled {kind}"

    def _send_event(self, words: list[str], headers: list[tuple[str, str]], body: str) -> str:
        sent = {name: value for name, value in headers if name.lower() not in ("content-length", "event-name")}
        event_id = sent.setdefault("Event-UUID", str(uuid4()))
        subclass = sent.pop("Event-Subclass", "")
        self._events.fire(words[0] if words else "CUSTOM", sent, subclass=subclass, source="parse_command", body=body)
        return f"+OK {event_id}"

    def _in_background(self, rest: str, job: str) -> None:
        name, _, arguments = rest.partition(" ")

        async def work() -> None:
            reply = await self._api(name, arguments.strip())
            headers = {"Job-UUID": job, "Job-Command": name, "Job-Command-Arg": arguments}
            self._events.fire("BACKGROUND_JOB", headers, source="api_exec", body=reply or "-ERR no reply\n")

        self._reply(f"+OK Job-UUID: {job}\nJob-UUID: {job}")
        task = asyncio.ensure_future(work())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _tell(self, queue: "asyncio.Queue[SwitchEvent]") -> None:
        with suppress(ConnectionError):
            while True:
                event = await queue.get()
                if self._wants(event) and event.matches(self._filters):
                    self._write(event.plain())
                    await self._writer.drain()

    def _wants(self, event: SwitchEvent) -> bool:
        if not self._known:
            return False
        return "ALL" in self._names or (event.subclass in self._subclasses if event.subclass else event.name in self._names)

    def _goodbye(self) -> None:
        self._write(f"Content-Type: text/disconnect-notice\nContent-Length: {len(_GOODBYE)}\n\n{_GOODBYE}".encode())

    def _reply(self, text: str) -> None:
        self._write(f"Content-Type: command/reply\nReply-Text: {text}\n\n".encode())

    def _answer_api(self, text: str) -> None:
        body = text.encode("utf-8", "surrogateescape")
        self._write(f"Content-Type: api/response\nContent-Length: {len(body)}\n\n".encode() + body)

    def _write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)
