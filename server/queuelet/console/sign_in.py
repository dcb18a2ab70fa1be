"""Signing in with a browser: a session in a cookie that scripts cannot read, and who the caller is.

`POST /session` with the token in `Authorization` begins a session, `DELETE /session` ends it. The middleware gives the
requests of a session their `Authorization`, before anything else looks for it. `GET /v1/me` says who the caller is.

A console of one user has a token of its own. There, `POST /key` begins a session for a key that works once, and all
calls need a session or a token, because other programs of the same machine can reach the port.

The paths are relative to the console's page. The cookie has no `Path`, so that a browser limits it to the folder of
`session`, which is the prefix that a proxy gave the console.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from http import HTTPStatus

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from queuelet.console.sessions import SECONDS, Session, Sessions
from queuelet.console.sign_in_key import SignInKey
from queuelet.console.source import Source
from queuelet.errors import Unauthenticated
from queuelet.rest.calls import USUAL_SECONDS, Caller
from queuelet.rest.handlers import AUTHORIZATION, as_json, refused, rest_call
from queuelet.rest.refusals import plain, refusal_of, refusal_of_error
from queuelet.wire.errors import SERVICE

log = structlog.get_logger()

OWN_PAGE = "X-Queuelet-Page"
"""The header of requests of the console. A page of another site cannot send it, because browsers ask before."""

_COOKIE = "queuelet-session"
_SESSION = web.RequestKey("session", Session)

_MAX_KEY_BYTES = 1_000
"""The most bytes of a request with a key."""

_PUBLIC = frozenset({"/", "/key", "/session", "/api", "/openapi.json"})
_PUBLIC_FOLDERS = ("/console/app/", "/console/style/", "/console/vendor/", "/api/")
"""The pages, which are no secret."""


class SignIn:
    """The routes and the middleware of sessions."""

    def __init__(self, caller: Caller, key: SignInKey | None = None) -> None:
        """Make them.

        Args:
            caller: makes and authorizes calls.
            key: the key of a console of one user, whose caller has a token of its own; None for other ports.
        """
        self._source = Source(caller)
        self._sessions = Sessions()
        self._key = key

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/session", self._open),
            web.delete("/session", self._close),
            web.get("/v1/me", self._me),
            *([web.post("/key", self._exchange)] if self._key else []),
        ]

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give a request of a session the session's `Authorization`, unless it has one of its own.

        Where there is a key, refuse calls that have neither.
        """
        session_id = request.cookies.get(_cookie_of(request), "")
        if session_id and hdrs.AUTHORIZATION not in request.headers and _is_of_own_page(request):
            session = self._sessions.find(session_id)
            if session:
                request[_SESSION] = session
                if session.authorization:
                    request[AUTHORIZATION] = session.authorization
        if self._key and not (_SESSION in request or hdrs.AUTHORIZATION in request.headers or _is_public(request)):
            return refused(
                plain(
                    HTTPStatus.UNAUTHORIZED,
                    "authorization: not signed in; open the address that `queuelet console` printed last, "
                    "or send the server's token",
                )
            )
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
        return self._begin(request, authorization)

    async def _exchange(self, request: web.Request) -> web.Response:
        if (request.content_length or _MAX_KEY_BYTES + 1) > _MAX_KEY_BYTES:
            return refused(plain(HTTPStatus.BAD_REQUEST, 'body: send {"key": "…"}'))
        try:
            key = json.loads(await request.read())["key"]
        except (ValueError, TypeError, KeyError):
            key = None
        if not isinstance(key, str):
            return refused(plain(HTTPStatus.BAD_REQUEST, 'body: send {"key": "…"}'))
        if self._key is None or not self._key.take(key):
            text = "key: it was used already, or is not the newest; open the address that was printed last"
            return refused(plain(HTTPStatus.FORBIDDEN, text))
        response = self._begin(request, "")
        self._key.renew()
        return response

    def _begin(self, request: web.Request, authorization: str) -> web.Response:
        """Begin a session in the place of one that the browser has."""
        cookie = _cookie_of(request)
        self._sessions.close(request.cookies.get(cookie, ""))
        response = web.Response(status=HTTPStatus.NO_CONTENT)
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
        response = web.Response(status=HTTPStatus.NO_CONTENT)
        response.set_cookie(cookie, "", path="", max_age=0, httponly=True, samesite="Strict")
        return response

    async def _me(self, request: web.Request) -> web.Response:
        call = rest_call(request, SERVICE, USUAL_SECONDS)
        status = await self._source.admit(call)
        if status is not None:
            return refused(refusal_of(status))
        session = request.get(_SESSION)
        found = {"user": "token" if call.metadata or session else "anonymous"}
        if session:
            ends = datetime.fromtimestamp(int(session.expires), UTC)
            found["session_expires"] = ends.isoformat().replace("+00:00", "Z")
        return as_json(json.dumps(found, separators=(",", ":")))


def _cookie_of(request: web.Request) -> str:
    """Return the name of the cookie. It has the port, because browsers send cookies of a host to all of its ports."""
    _, _, port = request.host.rpartition(":")
    return f"{_COOKIE}-{port}" if port.isdecimal() else _COOKIE


def _is_public(request: web.Request) -> bool:
    return request.path in _PUBLIC or request.path.startswith(_PUBLIC_FOLDERS)


def _is_of_own_page(request: web.Request) -> bool:
    """Return whether the request is of one of our pages, and not of a page of the same machine on another port."""
    return OWN_PAGE in request.headers or request.headers.get("Sec-Fetch-Site") == "same-origin"
