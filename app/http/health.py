"""``/healthz``: the process lives. ``/readyz``: the state of each thing that it needs.

Only a failure that stops the API is a 503: a load balancer must not drop a working API because a mail server is away.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from pydantic import BaseModel

from app.errors import VoicemailError
from app.http.routing import Request, Response, get

Check = Callable[[], Awaitable[str]]

# If one of these fails, the API cannot answer. If another one fails, the API answers and the other work is done later.
VITAL = frozenset({"database", "voicemail_tables"})

State = Literal["ok", "degraded", "failed"]

_LIMIT = 2.0  # seconds for one check
_KEEP = 1.0  # seconds for which an answer is cached, so that probes are cheap


class Degraded(VoicemailError):
    """It works in part."""


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class CheckState(BaseModel):
    """What one check found: ``degraded`` works in part, ``failed`` does not work."""

    state: State
    detail: str
    milliseconds: float


class ReadyState(BaseModel):
    """All checks by name; ``failed`` only if the API itself cannot work, ``degraded`` if anything else is not ``ok``."""

    status: State
    checks: dict[str, CheckState]


class OneAtATime:
    """A check that runs at most once at a time, so that a hanging disk blocks one thread and not one more each second."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._under_way: asyncio.Future[str] | None = None

    async def __call__(self) -> str:
        """What the check says. If the last one has not returned yet, wait for that one."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.ensure_future(self._check())
        return await asyncio.shield(self._under_way)


class Readiness:
    """Runs the named checks together. A check returns what it found, or raises; ``Degraded`` if it works in part."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)
        self._last: tuple[float, ReadyState] | None = None
        self._lock = asyncio.Lock()

    async def state(self) -> ReadyState:
        """The state of everything, at most a second old."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > _KEEP:
                found = await asyncio.gather(*(self._run(check) for check in self._checks.values()))
                checks = dict(zip(self._checks, found, strict=True))
                self._last = (time.monotonic(), ReadyState(status=_overall(checks), checks=checks))
            return self._last[1]

    @staticmethod
    async def _run(check: Check) -> CheckState:
        began = time.monotonic()
        state: State = "failed"
        try:
            detail = await asyncio.wait_for(check(), _LIMIT)
            state = "ok"
        except TimeoutError:
            detail = f"no answer within {_LIMIT:.0f} s"
        except Degraded as error:
            state, detail = "degraded", error.detail
        except VoicemailError as error:
            detail = error.detail
        except Exception as error:  # noqa: BLE001 - whatever it was, this is what is not ready
            # Not its text: a driver may quote its DSN.
            detail = getattr(error, "strerror", None) or type(error).__name__
        return CheckState(state=state, detail=detail, milliseconds=round((time.monotonic() - began) * 1000, 1))


def _overall(checks: Mapping[str, CheckState]) -> State:
    if any(check.state == "failed" for name, check in checks.items() if name in VITAL):
        return "failed"
    return "ok" if all(check.state == "ok" for check in checks.values()) else "degraded"


class HealthRoutes:
    """For load balancers and orchestrators; no token needed."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    @get("/healthz", scope=None, summary="Whether the process lives")
    async def check_health(self, request: Request) -> Health:  # noqa: ARG002
        """Always ok, because an answer shows that the process lives."""
        return Health()

    @get("/readyz", scope=None, summary="Whether database, switch, recordings folder and mail server are there")
    async def check_readiness(self, request: Request) -> Response[ReadyState]:  # noqa: ARG002
        """503 while the database or the switch's tables cannot be used; 200 and ``degraded`` while anything else is away."""
        state = await self._readiness.state()
        return Response(state, status=503 if state.status == "failed" else 200)
