"""The headers of all responses of the gateway."""

from __future__ import annotations

from aiohttp import hdrs, web

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of each response that does not set them itself."""


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add the headers to a response; aiohttp calls this before it sends one."""
    response.headers[hdrs.SERVER] = "queuelet"
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
