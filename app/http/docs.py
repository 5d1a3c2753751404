"""``/openapi.json`` and ``/docs``: the API's description, for machines and for people, without files from other hosts."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

_STATIC = Path(__file__).parent / "static"
_SCRIPT = "rapidoc-min.js"
_PAGE = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Voicemail API</title><meta name="viewport" content="width=device-width, initial-scale=1">
<script type="module" src="/docs/{_SCRIPT}"></script></head>
<body><rapi-doc spec-url="/openapi.json" load-fonts="false" render-style="read" show-header="false" allow-authentication="true"
 schema-description-expanded="true" regular-font="system-ui, sans-serif" mono-font="ui-monospace, monospace"></rapi-doc></body>
</html>
"""
# The page's own script writes styles; scripts come from here only, and requests go nowhere else.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def add_front(application: web.Application, *, docs: bool) -> object:
    """Serve ``/``, which leads to ``/docs`` if that is served; the handler, which needs no token."""

    async def front(_request: web.Request) -> web.Response:
        if not docs:
            raise web.HTTPNotFound
        # Not a permanent redirect, which browsers keep: a page will be here one day.
        return web.Response(status=303, headers={"Location": "/docs"})

    application.router.add_get("/", front)
    return front


def add_docs(application: web.Application, document: Callable[[], bytes]) -> list[object]:
    """Serve the OpenAPI document and the page that shows it; the handlers, none of which needs a token.

    ``document`` is called in a thread, as making the document takes long: at the first request for it, not at each start.
    """
    made: bytes | None = None

    async def openapi(_request: web.Request) -> web.Response:
        nonlocal made
        if made is None:
            made = await asyncio.to_thread(document)
        return web.Response(body=made, content_type="application/json")

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html", headers={"Content-Security-Policy": _POLICY})

    async def script(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(_STATIC / _SCRIPT, headers={"Cache-Control": "public, max-age=86400"})

    application.router.add_get("/openapi.json", openapi)
    application.router.add_get("/docs", page)
    application.router.add_get(f"/docs/{_SCRIPT}", script)
    return [openapi, page, script]
