"""``Idempotency-Key``: a POST that is sent again within a day is done once, and gets the first answer.

Claim, act, answer. The claim is a row; the act sets ``acted`` in it in its own transaction (app/access/audit/store.py); the
answer is written last. Killed before the act commits, the request is run anew when it comes again; killed after it, the answer is
lost and the client is told so: nothing is ever done twice.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import orjson
import structlog
from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.access.grant import Grant
from app.access.idempotency import store
from app.access.origin import Claim
from app.database.pool import Pool
from app.errors import Conflict, DatabaseFailed, Invalid
from app.jobs.claims import Claims
from app.jobs.loop import Loop
from app.jobs.retries import Retries

log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
PATTERN = "^[!-~]{1,255}$"
_KEY = re.compile(PATTERN[1:-1])
_KEPT = ("Location", "ETag")
_NONCE = 12
_EVERY = 3600.0  # seconds
_BATCH = 5_000

Act = Callable[[Claim], Awaitable[web.StreamResponse]]
Read = Callable[[], Awaitable[bytes]]


class Idempotency:
    """Runs requests with an Idempotency-Key; keys are each token's own."""

    def __init__(self, pool: Pool, claims: Claims) -> None:
        """``claims``: their locks tell a request that runs from one whose process died."""
        self._pool = pool
        self._claims = claims

    async def answer(self, raw: web.Request, grant: Grant, act: Act, read: Read) -> web.StreamResponse:
        """The first answer, or else that of ``act``; ``read`` gives the body.

        Raises ``Invalid`` for a key that cannot be one or was used for another request, and ``Conflict`` while the first request
        runs, or if its answer is lost.
        """
        text = _key_of(raw)
        caller = grant.token_id or grant.name
        key = hashlib.sha256(f"{caller}\0{text}".encode()).digest()
        fingerprint = _fingerprint(raw, await read())
        seal = _Seal(raw.headers.get("Authorization", ""), text)
        async with self._claims.hold(UUID(bytes=key[:16])) as ours:
            if not ours:
                raise Conflict("the first request with this Idempotency-Key is still running; ask again later")
            first = await store.find(self._pool, key)
            if first is not None and not hmac.compare_digest(first.fingerprint, fingerprint):
                raise Invalid.field(HEADER, "was used for another request; take a new one")
            if first is not None and first.answer is not None:
                return seal.open(first.answer)
            claim = Claim(key, uuid4())
            if (first is not None and first.acted) or not await store.begin(self._pool, claim, fingerprint):
                raise _lost()
            return await self._run(claim, act, seal)

    async def _run(self, claim: Claim, act: Act, seal: "_Seal") -> web.StreamResponse:
        try:
            response = await act(claim)
        except Exception:
            # A refusal is no answer to keep: nothing was done, and the next try may find things changed.
            await self._quietly(store.release(self._pool, claim.key, claim.run))
            raise
        if isinstance(response, web.Response) and isinstance(response.body, bytes) and response.status < 300:
            await self._quietly(store.keep_answer(self._pool, claim, seal.close(response)))
        else:
            await self._quietly(store.release(self._pool, claim.key, claim.run))
        return response

    @staticmethod
    async def _quietly(work: Awaitable[None]) -> None:
        """The client gets its answer also if this fails; the request, sent again, is then one whose answer is lost."""
        try:
            await work
        except DatabaseFailed as error:
            log.warning("idempotency_not_kept", reason=error.reason)

    async def run(self) -> None:
        """Forget, every hour, what is older than a day, until cancelled. One process at a time is enough."""
        await Loop("idempotency", self.forget, every=_EVERY, retries=Retries(first=60.0, longest=_EVERY)).run()

    async def forget(self) -> None:
        """Forget what is older than a day."""
        while await store.forget(self._pool, _BATCH) == _BATCH:
            pass


class _Seal:
    """Seals answers with a key that only the client has: its token and its Idempotency-Key."""

    def __init__(self, authorization: str, key: str) -> None:
        token = authorization.partition(" ")[2].strip(" ")
        self._aead = AESGCM(hmac.digest(token.encode(), b"freeswitch-voicemail idempotency " + key.encode(), hashlib.sha256))

    def close(self, response: web.Response) -> bytes:
        """The answer as it is kept."""
        assert isinstance(response.body, bytes)
        headers = {name: response.headers[name] for name in _KEPT if name in response.headers}
        facts = orjson.dumps([response.status, response.content_type, headers])
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._aead.encrypt(nonce, facts + b"\n" + response.body, None)

    def open(self, sealed: bytes) -> web.Response:
        """The answer again. Raises ``Conflict`` if the token was given another text since."""
        try:
            content = self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
        except InvalidTag:
            raise Conflict(
                "the first request with this Idempotency-Key was done; its answer can be read with the token's text of then only"
            ) from None
        facts, _, body = content.partition(b"\n")
        status, kind, headers = orjson.loads(facts)
        return web.Response(status=status, body=body, content_type=kind, headers={**headers, REPLAYED: "true"})


def _lost() -> Conflict:
    return Conflict("the first request with this Idempotency-Key was begun, and its answer is lost; look whether it was done")


def _key_of(raw: web.Request) -> str:
    given = raw.headers.getall(HEADER)
    if len(given) != 1 or not _KEY.fullmatch(given[0]):
        raise Invalid.field(HEADER, "must be given once, with 1 to 255 visible ASCII characters")
    return given[0]


def _fingerprint(raw: web.Request, body: bytes) -> bytes:
    url = raw.rel_url
    head = f"{raw.method} {url.raw_path}?{url.raw_query_string} {raw.content_type}\0"
    return hashlib.sha256(head.encode("utf-8", "surrogateescape") + body).digest()
