"""The part of a body that a ``Range`` header asks for (RFC 9110, 14)."""

import re
from dataclasses import dataclass

_SINGLE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,4000})-([0-9]{0,4000})|-([0-9]{1,4000}))[ \t]*", re.IGNORECASE)


class Unsatisfiable(Exception):
    """The range lies outside the body: 416."""


@dataclass(frozen=True, slots=True)
class Part:
    """``length`` bytes from ``start``, of ``size`` in all."""

    start: int
    length: int
    size: int

    @property
    def content_range(self) -> str:
        """The value of ``Content-Range``."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size}"


def requested_part(header: str | None, size: int) -> Part | None:
    """The single range that ``header`` asks for, or None for the whole body.

    Several ranges, another unit or a header that cannot be read are ignored, as RFC 9110 14.2 allows. Raises ``Unsatisfiable``.
    """
    found = _SINGLE.fullmatch(header) if header else None
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        length = min(int(suffix), size)
        if length == 0:
            raise Unsatisfiable
        return Part(size - length, length, size)
    start = int(first)
    end = int(last) if last else size - 1
    if last and end < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return Part(start, min(end, size - 1) - start + 1, size)
