"""`queuelet console`: a console on this machine, over a port-forward that is kept alive, with a key that works once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.commands import Cli
from support.console_command import ConsoleCommand, FakeKubectl, exchange
from support.rest import Rest
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess

TOKEN = "opensesame-opensesame"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a token and a queue."""
    token = tmp_path_factory.mktemp("guarded") / "token"
    token.write_text(TOKEN)
    with ServerProcess("--token-file", str(token)) as process:
        rpc = Rpc(process.address, metadata=(("authorization", f"Bearer {TOKEN}"),))
        rpc.new_queue("behind.token")
        rpc.close()
        yield process
        assert process.stop() == 0


@pytest.fixture
def token(tmp_path: Path) -> str:
    """A file with the token."""
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return str(path)


@pytest.fixture
def fake(tmp_path: Path, server: ServerProcess) -> FakeKubectl:
    """A kubectl that forwards to the shared server."""
    return FakeKubectl(tmp_path / "bin", server.address)


def has_been_called(fake: FakeKubectl, more_than: int) -> Callable[[], bool]:
    """Return a condition: kubectl was called more often than this."""
    return lambda: len(fake.calls()) > more_than


def has_queues(rest: Rest) -> bool:
    """Return whether the console reaches its server."""
    return rest.ask("GET", "/v1/queues").status == 200


# The key


def test_without_a_token_the_address_is_all_that_is_needed(server: ServerProcess) -> None:
    with ConsoleCommand("--server", server.address) as console:
        assert "#" not in console.addresses[0]
        assert b"<title>Queuelet</title>" in Rest(console.url).ask("GET", "/").body
        assert has_queues(Rest(console.url))
        assert console.stop() == 0


@pytest.mark.need(48)
def test_the_key_works_once_and_the_token_never_leaves_the_program(guarded: ServerProcess, token: str) -> None:
    with ConsoleCommand("--server", guarded.address, "--token-file", token) as console:
        stranger = Rest(console.url)
        for path in ("/v1/queues", "/console/board", "/console/live?since=0", "/v1/queues:watch"):
            assert stranger.ask("GET", path).status == 401, path
        assert stranger.ask("GET", "/").status == 200
        assert stranger.ask("GET", "/console/app/main.mjs").status == 200

        first = console.addresses[0]
        answer = exchange(first)
        cookie = answer.headers["Set-Cookie"]
        assert answer.status == 204
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "queuelet-" in cookie
        friend = Rest(console.url, {"Cookie": cookie.partition(";")[0], "X-Queuelet-Page": "1"})
        assert [queue["name"] for queue in friend.get("/v1/queues")["queues"]] == ["behind.token"]
        assert friend.ask("GET", "/console/board").status == 200

        again = exchange(first)
        assert (again.status, again.json["error"].partition(":")[0]) == (403, "key")
        second = console.wait_for_addresses(2)
        assert second != first
        assert exchange(second).status == 204
        assert has_queues(friend), "the first browser is still signed in"
        assert TOKEN not in "".join(console.addresses) + cookie + console.output()
        assert console.stop() == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"key": 1}', b'{"key": "\\ud800"}', b"x" * 2_000])
def test_what_is_no_key_is_refused(guarded: ServerProcess, token: str, body: bytes) -> None:
    with ConsoleCommand("--server", guarded.address, "--token-file", token) as console:
        assert Rest(console.url).ask("POST", "/key", body).status in {400, 403}
        assert exchange(console.addresses[0]).status == 204, "the key is still good"


def test_a_program_may_use_its_own_token(guarded: ServerProcess, token: str) -> None:
    with ConsoleCommand("--server", guarded.address, "--token-file", token) as console:
        assert has_queues(Rest(console.url, {"Authorization": f"Bearer {TOKEN}"}))
        assert Rest(console.url, {"Authorization": "Bearer wrong"}).ask("GET", "/v1/queues").status == 401
        assert not has_queues(Rest(console.url, {"Cookie": "queuelet-session-1=guessed", "X-Queuelet-Page": "1"}))


def test_a_page_of_another_site_cannot_sign_in(guarded: ServerProcess, token: str) -> None:
    with ConsoleCommand("--server", guarded.address, "--token-file", token) as console:
        url, _, key = console.addresses[0].partition("#key=")
        foreign = {"Origin": "https://evil.example.com", "Sec-Fetch-Site": "cross-site"}
        assert Rest(url.rstrip("/"), foreign).ask("POST", "/key", {"key": key}).status == 403
        assert exchange(console.addresses[0]).status == 204


# The port-forward


def test_kubectl_gets_the_flags_and_the_address_is_printed(fake: FakeKubectl) -> None:
    flags = ("--kubectl", "--namespace=prod", "--release=shop", "--context=east")
    with ConsoleCommand(*flags, env=fake.env) as console:
        assert has_queues(Rest(console.url))
        (call,) = fake.calls()
        assert call == [
            "port-forward",
            "--namespace=prod",
            "--context=east",
            "--address=127.0.0.1",
            "service/shop-queuelet-server",
            ":10002",
        ]
        eventually(lambda: bool(fake.calls("proxy")), "Queue objects are read by kubectl too")
        (proxy,) = fake.calls("proxy")
        assert proxy[:2] == ["proxy", "--context=east"]
        assert proxy[2].startswith("--unix-socket=/")
        assert proxy[3:] == [
            r"--accept-paths=^/apis/queuelet\.dev/v1alpha1/",
            "--reject-methods=^(POST|PUT|PATCH|DELETE)$",
        ]
        started = [fake.pid(), fake.pid("proxy")]
        assert console.stop() == 0
        for pid in started:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


@pytest.mark.parametrize(
    ("flags", "service"),
    [
        ([], "queuelet-server"),
        (["--release=my-queuelet"], "my-queuelet-server"),
        (["--service=queues"], "queues"),
    ],
)
def test_the_service_is_that_of_the_release(fake: FakeKubectl, flags: list[str], service: str) -> None:
    with ConsoleCommand("--kubectl", *flags, env=fake.env):
        assert f"service/{service}" in fake.calls()[0]


@pytest.mark.need(53)
def test_a_port_forward_that_ends_is_started_again_on_the_same_port(fake: FakeKubectl) -> None:
    with ConsoleCommand("--kubectl", env=fake.env) as console:
        rest = Rest(console.url)
        assert has_queues(rest)
        for _ in range(2):
            calls = len(fake.calls())
            os.kill(fake.pid(), signal.SIGKILL)
            eventually(has_been_called(fake, calls), "kubectl was started again")
            eventually(lambda: has_queues(rest), "the console reaches the server again")
        ports = [call[-1] for call in fake.calls()]
        assert ports[0] == ":10002"
        assert len(set(ports[1:])) == 1
        said = console.wait_for_output("again")
        assert "queuelet: kubectl port-forward: it ended with -9; starting it again" in said
        assert console.stop() == 0


def test_a_proxy_that_ends_is_started_again_and_the_queues_do_not_need_it(fake: FakeKubectl) -> None:
    with ConsoleCommand("--kubectl", env=fake.env) as console:
        eventually(lambda: bool(fake.calls("proxy")), "kubectl proxy was started")
        os.kill(fake.pid("proxy"), signal.SIGKILL)
        eventually(lambda: len(fake.calls("proxy")) == 2, "it was started again")
        assert has_queues(Rest(console.url))
        problem = "install the CustomResourceDefinition of Queue"

        def has_problem() -> bool:
            watch = Rest(console.url).get("/console/board")["kubernetes"]
            return watch is not None and problem in watch["problem"]

        eventually(has_problem, "the board says why there are no objects")
        assert console.stop() == 0


def test_a_port_forward_that_cannot_begin_fails_with_what_kubectl_says(fake: FakeKubectl) -> None:
    why = 'Error from server (NotFound): services "queuelet-server" not found'
    ended = Cli()("console", "--kubectl", env={**fake.env, "FORWARD_FAILS": why})
    assert (ended.code, ended.err) == (1, f"queuelet: cannot open the console: kubectl port-forward: {why}\n")


def test_without_kubectl_the_remedy_is_named(tmp_path: Path) -> None:
    ended = Cli()("console", "--kubectl", env={"PATH": str(tmp_path)})
    assert ended.code == 1
    assert "kubectl is not on the PATH; install it" in ended.err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--namespace=prod"], "--namespace"),
        (["--context=east"], "--context"),
        (["--queue-class=fast"], "--queue-class"),
        (["--queue-namespace=shop"], "--queue-namespace"),
        (["--kubectl", "--release=a", "--service=b"], "--service"),
        (["--listen=0.0.0.0:80"], "--listen"),
        (["--listen=:80"], "--listen"),
        (["--listen=8080"], "--listen"),
    ],
)
def test_flags_that_do_not_fit_are_refused_by_name(flags: list[str], named: str) -> None:
    ended = Cli()("console", *flags)
    assert ended.code == 2
    assert named in ended.err


def test_the_browser_opens_the_address(server: ServerProcess, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >{opened}\n')
    browser.chmod(0o755)
    with ConsoleCommand("--server", server.address, "--open", env={"BROWSER": str(browser)}) as console:
        eventually(lambda: opened.exists() and opened.read_text().strip() == console.addresses[0], "a browser opened")
