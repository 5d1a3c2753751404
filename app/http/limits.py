"""What one client, and all of them together, may hold of this process: time, connections and descriptors."""

import resource
from dataclasses import dataclass, replace

import structlog

from app.networks import Network

log = structlog.get_logger(__name__)

# What the process holds beside its clients and mails: libraries, pools, the switch, watchers, jobs, and room to spare.
_SERVICE = 72
_A_MAIL = 6  # descriptors for each of VOICEMAIL_MAILS_AT_ONCE: up to five connections to the mail server, and a recording
_A_CONNECTION = 2  # its socket, and the recording that it downloads
# Connections that the system may hand over at once, before any can be refused. If more come while the loop is busy, the system
# drops their first packet, and an honest client among them tries again after a second.
_LARGEST_BACKLOG = 1024
_FEWEST = 8  # connections; with fewer nobody is served


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Times in seconds, and numbers of connections."""

    head: float = 10.0  # from the first byte of a request, or from connecting, to the end of its headers
    body: float = 30.0  # from there to the end of the body
    idle: float = 30.0  # between two requests
    stall: float = 60.0  # in which a client must take something of what waits for it
    connections: int = 1000
    per_address: int = 64
    unlimited: tuple[Network, ...] = ()  # proxies, behind which all clients have one address
    backlog: int = _LARGEST_BACKLOG


def fit_descriptors(limits: ConnectionLimits, *, mails_at_once: int) -> ConnectionLimits:
    """The same with as many connections as the descriptors allow beside what the service itself needs.

    Raises the process's soft limit as far as that is needed and the hard limit allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    own = _SERVICE + _A_MAIL * mails_at_once
    needed = own + limits.backlog + _A_CONNECTION * limits.connections
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return limits
    backlog = max(_FEWEST, min(limits.backlog, soft // 8))
    connections = max(_FEWEST, (soft - own - backlog) // _A_CONNECTION)
    log.warning("few_descriptors", limit=soft, needed=needed, connections=connections)
    return replace(limits, connections=min(connections, limits.connections), backlog=backlog)
