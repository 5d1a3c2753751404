"""``/healthz``: the process lives. ``/readyz``: what it needs is there, each by its name."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from pydantic import BaseModel

from app.errors import VoicemailError
from app.http.routing import Answer, Call, get

Check = Callable[[], Awaitable[str]]

_LIMIT = 2.0  # seconds for one check
_KEEP = 1.0  # seconds for which an answer is given again, so that probes cost little


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class CheckState(BaseModel):
    """What one check found."""

    state: Literal["ok", "failed"]
    detail: str
    milliseconds: float


class ReadyState(BaseModel):
    """All checks by name."""

    status: Literal["ok", "failed"]
    checks: dict[str, CheckState]


class Readiness:
    """Runs the named checks together. A check returns what it found, or raises."""

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
                well = all(check.state == "ok" for check in found)
                self._last = (time.monotonic(), ReadyState(status="ok" if well else "failed", checks=checks))
            return self._last[1]

    @staticmethod
    async def _run(check: Check) -> CheckState:
        began = time.monotonic()
        state: Literal["ok", "failed"] = "failed"
        try:
            detail = await asyncio.wait_for(check(), _LIMIT)
            state = "ok"
        except TimeoutError:
            detail = f"no answer within {_LIMIT:.0f} s"
        except VoicemailError as error:
            detail = error.detail
        except Exception as error:  # noqa: BLE001 - whatever it was, this is what is not ready
            # Not its text: a driver may quote its DSN.
            detail = getattr(error, "strerror", None) or type(error).__name__
        return CheckState(state=state, detail=detail, milliseconds=round((time.monotonic() - began) * 1000, 1))


class HealthRoutes:
    """For load balancers and orchestrators; no token needed."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    @get("/healthz", scope=None, summary="Whether the process lives")
    async def health(self, call: Call) -> Health:  # noqa: ARG002
        """Always ok: that it is answered is the answer."""
        return Health()

    @get("/readyz", scope=None, summary="Whether database, switch, recordings folder and mail server are there")
    async def ready(self, call: Call) -> Answer[ReadyState]:  # noqa: ARG002
        """503 while anything is away."""
        state = await self._readiness.state()
        return Answer(state, status=200 if state.status == "ok" else 503)
