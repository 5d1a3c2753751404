"""A thread with a gevent hub of its own, beside asyncio and without monkey patching.

Objects of gevent belong to the thread of their hub, so there are two ways across and no third: ``post`` into the hub, and
whatever ``work`` calls to get out (asyncio's ``call_soon_threadsafe``).
"""

import threading
from collections import deque
from collections.abc import Callable

import gevent
import gevent.event


class HubThread:
    """Runs ``work`` in a greenlet of a daemon thread until it is stopped; ``ended`` is called there as the last thing."""

    def __init__(self, name: str, work: Callable[[], None], ended: Callable[[], None]) -> None:
        self._work = work
        self._ended = ended
        self._posted: deque[Callable[[], None]] = deque()
        self._guard = threading.Lock()
        self._signal: gevent.hub.loop.async_ | None = None
        self._over = False
        self._stop = False
        # Daemon: a resolver or a switch that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def post(self, callback: Callable[[], None]) -> bool:
        """Have the hub call ``callback``, which must not block; from any thread. False when the thread is over."""
        with self._guard:
            if self._over:
                return False
            self._posted.append(callback)
            if self._signal is not None:
                self._signal.send()
            return True

    def stop(self) -> None:
        """Kill the work wherever it waits; from any thread. Returns at once."""
        self._stop = True
        self.post(lambda: None)

    def _run(self) -> None:
        hub = gevent.get_hub()
        woken = gevent.event.Event()
        signal = hub.loop.async_()
        signal.start(lambda: self._call_posted(woken))
        with self._guard:
            self._signal = signal
        try:
            worker = gevent.spawn(self._work)
            worker.link(lambda _: woken.set())
            self._call_posted(woken)
            while not self._stop and not worker.dead:
                woken.wait()
                woken.clear()
            worker.kill()
        finally:
            # Nothing may touch a watcher of a destroyed loop: it would be a use of freed memory.
            with self._guard:
                self._over = True
                self._signal = None
            signal.stop()
            signal.close()
            hub.destroy(destroy_loop=True)
            self._ended()

    def _call_posted(self, woken: gevent.event.Event) -> None:
        while self._posted:
            self._posted.popleft()()
        if self._stop:
            woken.set()
