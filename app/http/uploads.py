"""Reads a body that is a file of audio; everything else that comes in is JSON (``parsing``)."""

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from app.http.problems import BadRequest, BodyTooLarge, UnsupportedMediaType

LARGEST = 10 * 1024 * 1024  # bytes
_BODY: web.RequestKey[bytes] = web.RequestKey("upload", bytes)
_ALSO_AUDIO = frozenset({"application/ogg", "video/ogg", "application/octet-stream"})


async def read_audio(request: web.Request, largest: int = LARGEST) -> bytes:
    """The body, at most ``largest`` bytes; it may be asked for again.

    Raises ``UnsupportedMediaType``, ``BodyTooLarge`` and ``BadRequest``.

    The media type only sorts out mistakes, such as JSON: what the file really is, its decoder finds out.
    """
    if _BODY in request:
        return request[_BODY]
    if not (request.content_type.startswith("audio/") or request.content_type in _ALSO_AUDIO):
        raise UnsupportedMediaType("send the audio itself as the body, with its Content-Type, such as audio/wav")
    too_large = BodyTooLarge(f"the body is larger than {largest // (1024 * 1024)} MiB")
    if (request.content_length or 0) > largest:
        raise too_large
    body = bytearray()
    try:
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > largest:
                raise too_large
    except (RequestPayloadError, ConnectionError):
        raise BadRequest("the body did not arrive whole") from None
    request[_BODY] = bytes(body)
    return request[_BODY]
