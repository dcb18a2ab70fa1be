"""The page of the REST API: `/openapi.json`, and `/api/`, which shows it with swagger-ui.

All addresses in the page are relative, so that it works behind any prefix. It loads nothing from elsewhere, and its
Content-Security-Policy allows no inline scripts and no inline styles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aiohttp import hdrs, web

from queuelet.console.assets import STATIC, VENDOR, respond
from queuelet.web.connections import HttpConnections

OPENAPI = Path(__file__).parents[1] / "rest" / "openapi.json"
"""The document; `make generate` writes it."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the page. Images of swagger-ui's style are data in it."""

FILES: Mapping[str, Path] = {
    "": STATIC / "api" / "index.html",
    "page.css": STATIC / "api" / "page.css",
    "page.js": STATIC / "api" / "page.js",
    "inter-latin-wght-normal.woff2": VENDOR / "inter" / "inter-latin-wght-normal.woff2",
    "swagger-ui.css": VENDOR / "swagger-ui-dist" / "swagger-ui.css",
    "swagger-ui-bundle.js": VENDOR / "swagger-ui-dist" / "swagger-ui-bundle.js",
}
"""The files below `/api/`."""


class ApiPage:
    """Serves the OpenAPI document and its page."""

    def __init__(self, connections: HttpConnections) -> None:
        """Make the page.

        Args:
            connections: notes when clients read.
        """
        self._connections = connections

    def routes(self) -> list[web.RouteDef]:
        """Return the routes for aiohttp."""
        return [
            web.get("/openapi.json", self._openapi),
            web.get("/api", self._redirect),
            web.get("/api/", self._page),
            web.get("/api/{file}", self._page),
        ]

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        return await respond(request, OPENAPI, self._connections, {})

    async def _redirect(self, _request: web.Request) -> web.StreamResponse:
        # Relative, because the server does not know the prefix that it is behind.
        return web.Response(status=308, headers={hdrs.LOCATION: "api/"})

    async def _page(self, request: web.Request) -> web.StreamResponse:
        path = FILES.get(request.match_info.get("file", ""))
        if path is None:
            raise web.HTTPNotFound
        try:
            return await respond(request, path, self._connections, {"Content-Security-Policy": POLICY})
        except FileNotFoundError:
            text = f"{path.name}: not installed; in a checkout, run make console-assets and reload this page"
            raise web.HTTPNotImplemented(text=text) from None
