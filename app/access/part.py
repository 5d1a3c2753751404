"""Wires tokens and grants."""

from contextlib import AsyncExitStack
from functools import partial

from app.access import store as token_store
from app.access.audit import store as audit_store
from app.access.audit.refusals import Refusals
from app.access.audit.retention import Retention
from app.access.audit.routes import AuditRoutes
from app.access.audit.service import Audit
from app.access.authenticator import Authenticator
from app.access.cache import GrantCache
from app.access.changes import TokenChanges
from app.access.limits import FailureLimit
from app.access.routes import TokenRoutes
from app.access.tokens import Tokens
from app.access.usage import TokenUsage
from app.http.idempotency import Idempotency
from app.jobs.claims import Claims
from app.resources import Part, Resources


def open_access(
    resources: Resources, failures: FailureLimit, stack: AsyncExitStack
) -> tuple[Part, Authenticator, Refusals, Idempotency]:
    """Make the tokens, the audit, their routes, the authenticator, and what counts refused and answers repeated requests.

    The authenticator counts wrong tokens in ``failures``; ``stack`` closes what is opened.
    """
    static = resources.settings.api_token
    tokens, cache = Tokens(resources.pool, resources.domain), GrantCache()
    usage = TokenUsage(partial(token_store.note_use, resources.pool))
    authenticator = Authenticator(
        tokens.find,
        cache,
        usage,
        failures=failures,
        static_token=static.get_secret_value() if static else None,
        default_domain=resources.domain,
    )
    claims = Claims(resources.dsn)
    stack.push_async_callback(claims.close)
    idempotency = Idempotency(resources.pool, claims)
    refusals = Refusals(partial(audit_store.insert, resources.pool))
    part = Part(
        routes=(TokenRoutes(tokens), AuditRoutes(Audit(resources.pool))),
        always=(TokenChanges(resources.dsn, cache).run, usage.run, refusals.run),
        leading=(Retention(resources.pool, resources.settings.audit_days).run, idempotency.run),
    )
    return part, authenticator, refusals, idempotency
