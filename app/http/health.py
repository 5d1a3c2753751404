"""``/healthz``: the process lives. ``/readyz``: the state of each thing that it needs.

Only a failure that stops the API is a 503: a load balancer must not drop a working API because a mail server is away.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NotRequired

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from app.access.grant import Grant
from app.access.scopes import Scope
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


@dataclass(frozen=True, slots=True)
class Found:
    """What one check found. The detail may name paths, hosts and domains: it is for the operator alone."""

    state: State
    detail: str
    milliseconds: float


class CheckState(TypedDict):
    """What one check found: ``degraded`` works in part, ``failed`` does not work."""

    state: State
    detail: NotRequired[Annotated[str, Field(description="only with a token of the scope admin for every domain")]]
    milliseconds: NotRequired[Annotated[float, Field(description="as detail")]]


class ReadyState(TypedDict):
    """All checks by name; ``failed`` only if the API itself cannot work, ``degraded`` if anything else is not ``ok``."""

    status: State
    checks: dict[str, CheckState]


class OneAtATime:
    """A check that runs at most once at a time, so that a hanging disk blocks one thread and not one more each second.

    It begins at most once in ``every`` seconds. Calls in between get the last result.
    """

    def __init__(self, check: Check, *, every: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._check = check
        self._every = every
        self._clock = clock
        self._began = 0.0
        self._last: asyncio.Future[str] | None = None

    async def __call__(self) -> str:
        """What the check says. If the last one has not returned yet, wait for that one."""
        now = self._clock()
        if self._last is None or (self._last.done() and now - self._began >= self._every):
            self._began = now
            self._last = asyncio.ensure_future(self._check())
            self._last.add_done_callback(_retrieve)
        return await asyncio.shield(self._last)


def _retrieve(check: "asyncio.Future[str]") -> None:
    # Nobody may be left to hear of its failure, and asyncio would log that.
    if not check.cancelled():
        check.exception()


class Readiness:
    """Runs the named checks together. A check returns what it found, or raises; ``Degraded`` if it works in part."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)
        self._last: tuple[float, dict[str, Found]] | None = None
        self._lock = asyncio.Lock()

    async def found(self) -> Mapping[str, Found]:
        """What each check found, at most a second ago. Who asks while they run waits for the same answer."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > _KEEP:
                found = await asyncio.gather(*(self._run(check) for check in self._checks.values()))
                self._last = (time.monotonic(), dict(zip(self._checks, found, strict=True)))
            return self._last[1]

    @staticmethod
    async def _run(check: Check) -> Found:
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
        return Found(state, detail, round((time.monotonic() - began) * 1000, 1))


def _overall(checks: Mapping[str, Found]) -> State:
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

    @get(
        "/readyz",
        scope=None,
        optional_scope=Scope.ADMIN,
        summary="Whether database, switch, recordings folder and mail server are there",
    )
    async def check_readiness(self, request: Request) -> Response[ReadyState]:
        """503 while the database or the switch's tables cannot be used; 200 and ``degraded`` while anything else is away."""
        found = await self._readiness.found()
        detailed = _sees_details(request.grant)
        checks = {name: _shown(check, detailed=detailed) for name, check in found.items()}
        status = _overall(found)
        return Response({"status": status, "checks": checks}, status=503 if status == "failed" else 200)


def _sees_details(grant: Grant) -> bool:
    # The details name folders, hosts and other domains, so the admin of some domains does not see them.
    return grant.has(Scope.ADMIN) and grant.covers(None)


def _shown(check: Found, *, detailed: bool) -> CheckState:
    if detailed:
        return {"state": check.state, "detail": check.detail, "milliseconds": check.milliseconds}
    return {"state": check.state}
