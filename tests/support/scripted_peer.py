"""The other end of an Event Socket, following a script: what a switch does on good days and on bad ones."""

import asyncio
from collections.abc import Awaitable, Callable

Action = Callable[["Session"], Awaitable[None]]


def event(name: str, headers: dict[str, str] | None = None) -> bytes:
    """An event as the switch frames it; values are sent exactly as given, so encode them as the switch would."""
    body = "".join(f"{key}: {value}\n" for key, value in {"Event-Name": name, **(headers or {})}.items()) + "\n"
    return f"Content-Length: {len(body.encode())}\nContent-Type: text/event-plain\n\n{body}".encode()


def api_response(text: str | bytes) -> bytes:
    """The reply to an ``api`` command."""
    body = text.encode() if isinstance(text, str) else text
    return b"Content-Type: api/response\nContent-Length: %d\n\n" % len(body) + body


def command_reply(text: str) -> bytes:
    """The reply to any other command."""
    return f"Content-Type: command/reply\nReply-Text: {text}\n\n".encode()


class Session:
    """One connection as the peer sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.commands: list[str] = []
        self.subscribed = False

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hang_up(self) -> None:
        self.writer.close()


class ScriptedPeer:
    """Greets, checks the password, answers ``api global_getvar X`` with ``value of X``; everything else is scripted."""

    def __init__(self, password: str = "ClueCon") -> None:
        self.password = password
        self.greeting: bytes | None = b"Content-Type: auth/request\n\n"
        self.sessions: list[Session] = []
        self.silent = False
        self.reading = True
        self.port = 0
        self._actions: list[tuple[str, Action]] = []
        self._server: asyncio.Server | None = None
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str = "127.0.0.1") -> None:
        """Listen; on the same port as before after a ``stop``."""
        self._stopped = asyncio.Event()
        self._server = await asyncio.start_server(self._serve, host, self.port, limit=1 << 22)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection, as a switch that is shut down."""
        if self._server is not None:
            self._server.close()
        self._stopped.set()
        self.drop_connections()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)

    async def hang(self, _session: Session) -> None:
        """An action: do nothing more on this connection."""
        await self._stopped.wait()

    def drop_connections(self) -> None:
        """Reset every connection, as a switch that is killed."""
        for session in self.sessions:
            session.writer.transport.abort()

    def on(self, start: str, action: Action) -> None:
        """Do ``action`` for commands that begin with ``start``, instead of answering. The latest rule wins."""
        self._actions.insert(0, (start, action))

    def behave(self) -> None:
        """Forget every ``on``, and answer again."""
        self._actions.clear()
        self.silent = False

    def commands(self) -> list[str]:
        """Every command of every connection, in order."""
        return [command for session in self.sessions for command in session.commands]

    async def fire(self, data: bytes) -> None:
        """Send to every connection that subscribed and still lives."""
        for session in self.sessions:
            if session.subscribed and not session.writer.transport.is_closing():
                await session.send(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        session = Session(reader, writer)
        self.sessions.append(session)
        try:
            if self.greeting is not None:
                await session.send(self.greeting)
            while self.reading:
                command = (await reader.readuntil(b"\n\n")).decode().removesuffix("\n\n")
                session.commands.append(command)
                await self._do(session, command)
            await self._stopped.wait()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client went away
        except asyncio.CancelledError:
            if not self._stopped.is_set():
                raise
        finally:
            writer.close()

    async def _do(self, session: Session, command: str) -> None:
        for start, action in self._actions:
            if command.startswith(start):
                await action(session)
                return
        if self.silent:
            return
        match command.split():
            case ["auth", *_]:
                if command == f"auth {self.password}":
                    await session.send(command_reply("+OK accepted"))
                else:
                    notice = b"Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
                    await session.send(command_reply("-ERR invalid"))
                    await session.send(b"Content-Type: text/disconnect-notice\nContent-Length: %d\n\n" % len(notice) + notice)
                    await session.hang_up()
            case ["event", *_]:
                session.subscribed = True
                await session.send(command_reply("+OK event listener enabled plain"))
            case ["sendevent", *_]:
                await session.send(command_reply("+OK 7f4de4bc-17d7-11dd-b7a0-db4edd065621"))
            case ["api", "global_getvar", name]:
                await session.send(api_response(f"value of {name}"))
            case ["api", "version"]:
                await session.send(api_response("FreeSWITCH Version 1.10.12-release\n"))
            case ["api", name, *_]:
                await session.send(api_response(f"-ERR {name} Command not found!\n"))
            case _:
                await session.send(command_reply("-ERR command not found"))
