"""Signing in with a browser: a session in a cookie that scripts cannot read, and who the caller is.

`POST /session` with the token in `Authorization` begins a session, `DELETE /session` ends it. The middleware gives the
requests of a session their `Authorization`, before anything else looks for it. `GET /v1/me` says who the caller is.

The paths are relative to the console's page. The cookie has no `Path`, so that a browser limits it to the folder of
`session`, which is the prefix that a proxy gave the console.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from queuelet.console.sessions import SECONDS, Session, Sessions
from queuelet.console.source import Source
from queuelet.errors import Unauthenticated
from queuelet.rest.calls import USUAL_SECONDS, Caller
from queuelet.rest.handlers import AUTHORIZATION, as_json, refused, rest_call
from queuelet.rest.refusals import refusal_of, refusal_of_error
from queuelet.wire.errors import SERVICE

log = structlog.get_logger()

OWN_PAGE = "X-Queuelet-Page"
"""The header of requests of the console. A page of another site cannot send it, because browsers ask before."""

_COOKIE = "queuelet-session"
_SESSION = web.RequestKey("session", Session)


class SignIn:
    """The routes and the middleware of sessions."""

    def __init__(self, caller: Caller, sessions: Sessions | None = None) -> None:
        """Make them.

        Args:
            caller: makes and authorizes calls.
            sessions: the sessions; new ones if None.
        """
        self._source = Source(caller)
        self._sessions = Sessions() if sessions is None else sessions

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/session", self._open),
            web.delete("/session", self._close),
            web.get("/v1/me", self._me),
        ]

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give a request of a session the session's `Authorization`, unless it has one of its own."""
        session_id = request.cookies.get(_cookie_of(request), "")
        if session_id and hdrs.AUTHORIZATION not in request.headers and _is_of_own_page(request):
            session = self._sessions.find(session_id)
            if session:
                request[_SESSION] = session
                request[AUTHORIZATION] = session.authorization
        return await handler(request)

    async def _open(self, request: web.Request) -> web.Response:
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        call = rest_call(request, SERVICE, USUAL_SECONDS)
        status = await self._source.admit(call)
        if status is None and not call.metadata:
            error = Unauthenticated(
                "Authorization: missing; send 'Authorization: Bearer <token>' with the server's token"
            )
            return refused(refusal_of_error(error))
        if status is not None:
            return refused(refusal_of(status))
        cookie = _cookie_of(request)
        self._sessions.close(request.cookies.get(cookie, ""))
        response = web.Response(status=204)
        response.set_cookie(
            cookie,
            self._sessions.open(authorization),
            path="",  # none, which is the folder of this path
            max_age=int(SECONDS),
            httponly=True,
            samesite="Strict",
            secure=request.secure or request.headers.get(hdrs.ORIGIN, "").startswith("https:"),
        )
        log.info("session began", remote=request.remote)
        return response

    async def _close(self, request: web.Request) -> web.Response:
        cookie = _cookie_of(request)
        self._sessions.close(request.cookies.get(cookie, ""))
        response = web.Response(status=204)
        response.set_cookie(cookie, "", path="", max_age=0, httponly=True, samesite="Strict")
        return response

    async def _me(self, request: web.Request) -> web.Response:
        call = rest_call(request, SERVICE, USUAL_SECONDS)
        status = await self._source.admit(call)
        if status is not None:
            return refused(refusal_of(status))
        found = {"user": "token" if call.metadata else "anonymous"}
        session = request.get(_SESSION)
        if session:
            ends = datetime.fromtimestamp(int(session.expires), UTC)
            found["session_expires"] = ends.isoformat().replace("+00:00", "Z")
        return as_json(json.dumps(found, separators=(",", ":")))


def _cookie_of(request: web.Request) -> str:
    """Return the name of the cookie. It has the port, because browsers send cookies of a host to all of its ports."""
    _, _, port = request.host.rpartition(":")
    return f"{_COOKIE}-{port}" if port.isdecimal() else _COOKIE


def _is_of_own_page(request: web.Request) -> bool:
    """Return whether the request is of one of our pages, and not of a page of the same machine on another port."""
    return OWN_PAGE in request.headers or request.headers.get("Sec-Fetch-Site") == "same-origin"
