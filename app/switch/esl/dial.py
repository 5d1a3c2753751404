"""Opening a TCP connection inside a gevent hub, with a limit on every part of it, the name included."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence

import gevent.event
import gevent.socket

_Addresses = Sequence[tuple[int, int, int, str, tuple[object, ...]]]


class Resolver:
    """Looks names up in a plain daemon thread.

    gevent's own resolver keeps a watcher of the hub's loop in its worker, so a lookup that outlives the hub would write to
    freed memory when it ends. Here a late answer is simply not posted.
    """

    def __init__(self, post: Callable[[Callable[[], None]], bool]) -> None:
        self._post = post
        self._running: gevent.event.AsyncResult | None = None

    def addresses(self, host: str, port: int) -> _Addresses:
        """The addresses of ``host``; raises ``OSError``. Blocks the greenlet only: give it a ``gevent.Timeout``."""
        with contextlib.suppress(socket.gaierror):
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        # A lookup that hangs is waited for again by the next attempt, so that there is never more than one thread.
        answer = self._running
        if answer is None or answer.ready():
            answer = self._running = gevent.event.AsyncResult()
            threading.Thread(target=self._look_up, args=(host, port, answer), name="resolver", daemon=True).start()
        found: _Addresses = answer.get()
        return found

    def _look_up(self, host: str, port: int, answer: gevent.event.AsyncResult) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            failure = error
            self._post(lambda: answer.set_exception(failure))
        else:
            self._post(lambda: answer.set(found))


def open_socket(resolver: Resolver, host: str, port: int, limit: float) -> gevent.socket.socket:
    """A connected TCP socket to the first address of ``host`` that accepts; raises ``OSError``.

    ``limit`` seconds are shared by the addresses, so that a dead first one leaves time for the second.
    """
    started = time.monotonic()
    addresses = resolver.addresses(host.removeprefix("[").removesuffix("]"), port)
    failure: OSError = OSError(f"{host} has no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        left = limit - (time.monotonic() - started)
        try:
            return _connected(family, kind, protocol, address, max(left, 0.05) / (len(addresses) - index))
        except OSError as error:
            failure = error
    raise failure


def _connected(family: int, kind: int, protocol: int, address: tuple[object, ...], limit: float) -> gevent.socket.socket:
    sock = gevent.socket.socket(family, kind, protocol)
    try:
        sock.settimeout(limit)
        sock.connect(address)
        sock.settimeout(None)
        _keep_alive(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _keep_alive(sock: gevent.socket.socket) -> None:
    """Let the kernel notice a host that vanished; commands go out at once instead of waiting to be gathered."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # The names differ between systems; Linux has them all.
    for name, seconds in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 20_000)):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
