"""Wires domains."""

from app.domains.routes import DomainRoutes
from app.domains.service import Domains
from app.resources import Part, Resources, when_database_answers


async def open_domains(resources: Resources) -> Part:
    """Make the domains; creates the default domain if it is missing."""
    domains = Domains(resources.pool, resources.domain)
    await when_database_answers(domains.ensure_default)
    return Part(routes=(DomainRoutes(domains),))
