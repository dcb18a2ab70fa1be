"""Refuses requests to an HTTP port that a foreign web page made a browser send.

A page of any site can make the browser call ports of its user's machine and network. Such a request has a foreign
`Origin` or `Sec-Fetch-Site`. With DNS rebinding it has neither, but its `Host` is a name that the attacker registered.
Programs such as curl, Prometheus and the kubelet send no `Origin`, and their `Host` is an address or a name inside the
cluster.

A link on a page of another site may open the pages that the port names: a browser then shows them, and the other site
can neither read nor frame them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

_UNREGISTRABLE = (".localhost", ".svc", ".local", ".internal")
"""Suffixes that no public registry offers, so that no foreign page can have such a name."""

_OWN_SITE = {"same-origin", "none"}
"""`Sec-Fetch-Site` for requests of our own pages, and for addresses that the user typed."""


def _as_text(why: str) -> web.Response:
    return web.Response(text=f"{why}\n", status=403)


def refuse_web_pages(
    hosts: Collection[str],
    origins: Collection[str] = (),
    refused: Callable[[str], web.Response] = _as_text,
    pages: Collection[str] = (),
) -> Middleware:
    """Return a middleware that refuses requests of foreign web pages with 403.

    Args:
        hosts: names that are allowed as `Host`, in addition to IP addresses and names that only local networks have.
        origins: origins of other sites whose pages are allowed, such as `https://admin.example.com`.
        refused: makes the response from the reason.
        pages: paths that links on foreign pages may open. They must be the same for everyone, and change nothing.
    """
    allowed = frozenset(map(_normal, hosts))
    friends = frozenset(origins)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        why = _why_refused(request, allowed, friends, opens_page=_is_navigation(request) and request.path in pages)
        return refused(why) if why else await handler(request)

    return guard


def why_not_consumed(request: web.BaseRequest) -> str:
    """Return why a GET that takes a message is refused, empty if it is allowed.

    A browser sends such a request for an address that a user opens, and even before, to load it in advance.
    """
    purposes = ",".join(request.headers.get(name, "") for name in ("Sec-Purpose", "Purpose", "X-Moz"))
    if "prefetch" in purposes.lower():
        return "Sec-Purpose: a request in advance must not take a message; use POST"
    if request.headers.get("Sec-Fetch-Dest", "empty") != "empty":
        return "Sec-Fetch-Dest: opening an address in a browser must not take a message; use POST"
    return ""


def is_loopback(address: str) -> bool:
    """Return whether an IP address is a loopback address."""
    found = _address(address)
    return found is not None and found.is_loopback


def names_loopback(request: web.BaseRequest, hosts: Collection[str]) -> bool:
    """Return whether the `Host` of a request is loopback, or one of these hosts."""
    host = _host_of(request.headers.get("Host", "localhost"))
    return host == "localhost" or is_loopback(host) or host in map(_normal, hosts)


def _is_navigation(request: web.BaseRequest) -> bool:
    """Return whether a browser asks for a document to show in a window of its own, as for a link that a user clicks."""
    headers = request.headers
    return (
        request.method == "GET"
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )


def _why_refused(
    request: web.BaseRequest, allowed: frozenset[str], friends: frozenset[str], *, opens_page: bool
) -> str:
    """Return why a request is refused; empty if it is allowed."""
    authorities = request.headers.getall("Host", [])
    if len(authorities) > 1:
        return "Host: there are several; send one"
    for authority in authorities:
        if not _is_local(host := _host_of(authority), allowed):
            return (
                f"Host: {host[:80]!r} is not a known name of this server; use its IP address, "
                "or start it with --http-hosts and the name"
            )
    origins = request.headers.getall("Origin", [])
    if len(origins) == 1 and origins[0] in friends:
        return ""
    if request.headers.get("Sec-Fetch-Site", "none") not in _OWN_SITE and not opens_page:
        return "Sec-Fetch-Site: requests from pages of other sites are refused; send the request from a program"
    for origin in origins:
        if origin.partition("://")[2] not in authorities:
            return "Origin: requests from pages of other sites are refused; send the request from a program"
    return ""


def _is_local(host: str, allowed: frozenset[str]) -> bool:
    """Return whether no foreign web page can have this name."""
    return "." not in host or host in allowed or host.endswith(_UNREGISTRABLE) or _address(host) is not None


def _host_of(authority: str) -> str:
    """Return the host of `host:port`, `host`, `[IPv6]:port` or `[IPv6]`."""
    host, separator, port = authority.rpartition(":")
    return _normal(host if separator and port.isdecimal() else authority)


def _normal(host: str) -> str:
    return host.strip().lower().removeprefix("[").removesuffix("]").removesuffix(".")


@lru_cache(maxsize=256)
def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
