"""Which of several media types a client prefers (RFC 9110, 12.5.1)."""

import re
from collections.abc import Iterable, Sequence

_RANGE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)/([!#$%&'*+.^_`|~0-9A-Za-z-]+)((?:[ \t]*;[^;]*)*)")
_QUALITY = re.compile(r"[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*", re.IGNORECASE)
_ALIKE = {"audio/x-wav": "audio/wav", "audio/wave": "audio/wav", "audio/vnd.wave": "audio/wav", "audio/mp3": "audio/mpeg"}
_MOST = 50  # media ranges that are looked at


def preferred(headers: Iterable[str], offers: Sequence[str]) -> str:
    """The offer of the highest quality, of equal ones the first; also the first one if the client takes none or says nothing."""
    wanted = _wanted(headers)
    best = max(offers, key=lambda offer: _quality(wanted, offer))  # max keeps the first of equal ones
    return best if wanted and _quality(wanted, best) > 0 else offers[0]


def _wanted(headers: Iterable[str]) -> dict[str, float]:
    """Quality by media range."""
    found: dict[str, float] = {}
    for part in ",".join(headers).split(",")[:_MOST]:
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            continue
        quality = 1.0
        for parameter in match[3].split(";")[1:]:
            if parameter.strip().lower().startswith("q="):
                number = _QUALITY.fullmatch(parameter)
                quality = float(number[1]) if number else 0.0
        name = f"{match[1]}/{match[2]}".lower()
        name = _ALIKE.get(name, name)
        found[name] = max(found.get(name, 0.0), quality)
    return found


def _quality(wanted: dict[str, float], offer: str) -> float:
    """As the most specific range that names the offer says."""
    for name in (offer, f"{offer.partition('/')[0]}/*", "*/*"):
        if name in wanted:
            return wanted[name]
    return 0.0
