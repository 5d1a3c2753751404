"""Checks the port of the API before anything else is opened, so that a port in use is said at once."""

import errno
import os
import socket

from app.config import PREFIX
from app.errors import FieldError, SettingsError

_PORT, _HOST = PREFIX + "HTTP_PORT", PREFIX + "HTTP_HOST"
_REMEDIES = {
    errno.EADDRINUSE: "stop the program that uses it, or choose another port (0: any free one)",
    errno.EACCES: "choose a port from 1024 on, or give the service the right to use this one",
}


def check_port(host: str, port: int) -> None:
    """Raise ``SettingsError`` if the service could not listen there now."""
    try:
        places = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise SettingsError.field(_HOST, f"{host} is no address of this machine") from None
    for family, kind, protocol, _, address in places:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise _refused(host, port, error) from None


def _refused(host: str, port: int, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRNOTAVAIL:
        return SettingsError([FieldError(_HOST, f"{host} is no address of this machine")])
    reason = os.strerror(error.errno).lower() if error.errno else type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0, "choose another address or port")
    return SettingsError([FieldError(_PORT, f"{host} port {port} cannot be listened on: {reason}; {remedy}")])
