"""Wires tokens and grants."""

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
from app.resources import Part, Resources


def open_access(resources: Resources, failures: FailureLimit) -> tuple[Part, Authenticator, Refusals]:
    """Make the tokens, the audit, their routes, the authenticator, and what counts refused requests.

    The authenticator counts wrong tokens in ``failures``.
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
    refusals = Refusals(partial(audit_store.insert, resources.pool))
    part = Part(
        routes=(TokenRoutes(tokens), AuditRoutes(Audit(resources.pool))),
        always=(TokenChanges(resources.dsn, cache).run, usage.run, refusals.run),
        leading=(Retention(resources.pool, resources.settings.audit_days).run,),
    )
    return part, authenticator, refusals
