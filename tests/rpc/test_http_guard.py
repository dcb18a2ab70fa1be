"""Web pages cannot use the HTTP port through their reader's browser; programs can use it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from support.server_process import ServerProcess

PATHS = ("/metrics", "/healthz", "/readyz", "/quitquitquit", "/nothing")


@pytest.fixture(scope="module")
def public() -> Iterator[ServerProcess]:
    """A server with names of its own. The requests of these tests must not stop it."""
    names = ("--http-hosts", "metrics.example.com", "--http-hosts", "Other.Example.com.")
    with ServerProcess(*names) as server:
        yield server
        assert server.stop() == 0


def ask(server: ServerProcess, path: str, headers: list[tuple[str, str]], method: str = "GET") -> tuple[int, str]:
    """Send a request with exactly these headers."""
    connection = HTTPConnection("127.0.0.1", server.metrics_port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for key, value in headers:
            connection.putheader(key, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


FOREIGN = {
    "a page by fetch": [("Host", "127.0.0.1:10003"), ("Origin", "https://evil.example")],
    "a page without an origin": [("Host", "127.0.0.1:10003"), ("Origin", "null")],
    "a page on another port": [("Host", "localhost:10003"), ("Origin", "http://localhost:8080")],
    "a picture of another site": [("Host", "127.0.0.1:10003"), ("Sec-Fetch-Site", "cross-site")],
    "a picture of the same site": [("Host", "localhost:10003"), ("Sec-Fetch-Site", "same-site")],
    "a rebound name": [("Host", "evil.example:10003")],
    "a rebound name with its own origin": [("Host", "evil.example"), ("Origin", "http://evil.example")],
    "a name that looks like an address": [("Host", "127.0.0.1.evil.example:10003")],
    "a name that ends like ours": [("Host", "evilmetrics.example.com")],
    "a name below ours": [("Host", "a.metrics.example.com")],
    "two hosts": [("Host", "localhost"), ("Host", "evil.example")],
}


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("path", PATHS)
def test_requests_of_foreign_pages_are_refused_on_every_path(public: ServerProcess, path: str, foreign: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        status, text = ask(public, path, FOREIGN[foreign], method)
        # aiohttp itself may refuse two hosts.
        assert status == 403 or (status == 400 and foreign == "two hosts"), text
    assert not public.log("shutdown requested")


def test_a_refusal_says_what_to_do(public: ServerProcess) -> None:
    _, text = ask(public, "/metrics", [("Host", "queues.example.org")])
    assert text == (
        "Host: 'queues.example.org' is not a known name of this server; use its IP address, or start it with "
        "--http-hosts and the name\n"
    )
    _, text = ask(public, "/metrics", FOREIGN["a page by fetch"])
    assert text == "Origin: requests from pages of other sites are refused; send the request from a program\n"
    _, text = ask(public, "/metrics", FOREIGN["a picture of another site"])
    assert text == "Sec-Fetch-Site: requests from pages of other sites are refused; send the request from a program\n"


PROGRAMS = {
    "curl": "127.0.0.1:10003",
    "a port-forward": "localhost:54321",
    "curl by IPv6": "[::1]:10003",
    "the kubelet": "10.244.0.7:10003",
    "the kubelet by IPv6": "[fd00::7]:10003",
    "Prometheus by Service name": "queuelet-server.queuelet.svc:10003",
    "Prometheus by full Service name": "queuelet-server-headless.queuelet.svc.cluster.local:10003",
    "Prometheus by short name": "queuelet-server:10003",
    "a machine of a home network": "laptop.local:10003",
    "a name with a flag": "metrics.example.com:10003",
    "another name with a flag": "OTHER.example.com.:10003",
    "a name and the usual port": "localhost",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_read_every_page(public: ServerProcess, program: str) -> None:
    for path in ("/metrics", "/healthz", "/readyz"):
        assert ask(public, path, [("Host", PROGRAMS[program])])[0] == 200


def test_a_request_without_a_host_is_not_of_a_browser(public: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", public.metrics_port), timeout=60) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert connection.makefile("rb").readline().split()[1] == b"200"


def test_pages_of_the_server_itself_and_typed_addresses_are_served(public: ServerProcess) -> None:
    own = [("Host", "localhost:10003"), ("Origin", "http://localhost:10003"), ("Sec-Fetch-Site", "same-origin")]
    assert ask(public, "/metrics", own)[0] == 200
    assert ask(public, "/metrics", [("Host", "localhost:10003"), ("Sec-Fetch-Site", "none")])[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0:10003", "192.168.1.7:10003", "queuelet:10003", "laptop.local", "[::]"])
def test_a_stop_needs_a_host_of_loopback(public: ServerProcess, host: str) -> None:
    """Browsers send neither header for a page that calls 0.0.0.0 or the machine's own address without TLS."""
    status, text = ask(public, "/quitquitquit", [("Host", host)])
    assert status == 403
    assert "--quit-from-anywhere" in text
    assert not public.log("shutdown requested")


@pytest.mark.parametrize("host", ["127.0.0.1:10003", "localhost", "[::1]:10003", "metrics.example.com"])
def test_a_plain_request_to_loopback_stops_the_server(host: str) -> None:
    with ServerProcess(env={"QUEUELET_SERVER_HTTP_HOSTS": "other.example.com metrics.example.com"}) as server:
        assert ask(server, "/quitquitquit", [("Host", host)]) == (200, "shutting down\n")
        assert server.wait() == 0
