"""Wires tokens and grants."""

from functools import partial

from app.access import store as token_store
from app.access.authenticator import Authenticator
from app.access.cache import GrantCache
from app.access.changes import TokenChanges
from app.access.limits import FailureLimit
from app.access.routes import TokenRoutes
from app.access.tokens import Tokens
from app.access.usage import TokenUsage
from app.resources import Part, Resources


def open_access(resources: Resources, failures: FailureLimit) -> tuple[Part, Authenticator]:
    """Make the tokens, their routes, and the authenticator, which counts wrong tokens in ``failures``."""
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
    always = (TokenChanges(resources.dsn, cache).run, usage.run)
    return Part(routes=(TokenRoutes(tokens),), always=always), authenticator
