"""A browser signs in once; its session is a cookie that works for the server's own pages alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gateway_process import GatewayProcess
from support.rest import Answer, Rest
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess

TOKEN = "opensesame-opensesame"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PAGE = {"X-Queuelet-Page": "1"}
READS = ("/v1/queues", "/v1/me", "/console/board", "/v1/stats")


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """The file with the token."""
    (tmp_path / "token").write_text(TOKEN)
    return tmp_path / "token"


@pytest.fixture
def guarded(token: Path) -> Iterator[ServerProcess]:
    """A server with the token."""
    with ServerProcess("--token-file", str(token)) as process:
        yield process
        assert process.stop() == 0


@pytest.fixture
def rest(guarded: ServerProcess) -> Rest:
    """A client of the server without the token."""
    return Rest(guarded.rest_url)


def cookie_of(answer: Answer) -> str:
    return next(value for name, value in answer.headers.items() if name.lower() == "set-cookie")


def signed_in(rest: Rest) -> dict[str, str]:
    """Return the headers of requests in a new session."""
    answer = rest.ask("POST", "/session", headers=BEARER)
    assert (answer.status, answer.body) == (204, b"")
    return {**PAGE, "Cookie": cookie_of(answer).partition(";")[0]}


def test_a_session_stands_for_the_token(rest: Rest) -> None:
    session = signed_in(rest)
    for path in READS:
        assert rest.ask("GET", path, headers=PAGE).status == 401
        assert rest.ask("GET", path, headers=session).status == 200
    new = {"store": "MEMORY", "limit": "-1", "name": "made"}
    assert rest.ask("POST", "/v1/queues", new, headers=session).status == 200
    assert rest.ask("DELETE", "/v1/queues/made", headers=session).status == 200


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(rest: Rest) -> None:
    cookie = cookie_of(rest.ask("POST", "/session", headers=BEARER))
    port = rest.url.rpartition(":")[2]
    assert re.fullmatch(rf"queuelet-session-{port}=[\w-]{{43}}; HttpOnly; Max-Age=43200; SameSite=Strict", cookie), (
        "no Path, so that a browser limits it to the prefix of a proxy"
    )
    assert TOKEN not in cookie
    over_tls = rest.ask("POST", "/session", headers={**BEARER, "Origin": f"https://127.0.0.1:{port}"})
    assert "; Secure" in cookie_of(over_tls)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
def test_only_the_right_token_begins_a_session(rest: Rest, headers: dict[str, str]) -> None:
    answer = rest.ask("POST", "/session", headers=headers)
    assert (answer.status, answer.json["reason"]) == (401, "UNAUTHENTICATED")
    assert "Set-Cookie" not in answer.headers


def test_a_cookie_counts_only_in_requests_of_our_own_pages(rest: Rest) -> None:
    session = signed_in(rest)
    cookie = {"Cookie": session["Cookie"]}
    assert rest.ask("GET", "/v1/queues", headers=cookie).status == 401
    assert rest.ask("GET", "/v1/queues", headers={**cookie, "Sec-Fetch-Site": "same-origin"}).status == 200
    assert rest.ask("GET", "/v1/queues", headers={**cookie, "Sec-Fetch-Site": "same-site"}).status == 403
    assert rest.ask("GET", "/v1/queues", headers={**session, "Sec-Fetch-Site": "cross-site"}).status == 403


def test_a_header_has_priority_over_a_session(rest: Rest) -> None:
    session = signed_in(rest)
    assert rest.ask("GET", "/v1/queues", headers={**session, "Authorization": "Bearer wrong"}).status == 401


def test_signing_out_ends_the_session_and_a_new_one_replaces_it(rest: Rest) -> None:
    session = signed_in(rest)
    other = signed_in(rest)
    answer = rest.ask("DELETE", "/session", headers=session)
    assert answer.status == 204
    assert "Max-Age=0" in cookie_of(answer)
    assert rest.ask("GET", "/v1/queues", headers=session).status == 401
    assert rest.ask("GET", "/v1/queues", headers=other).status == 200
    again = rest.ask("POST", "/session", headers={**other, **BEARER})
    assert again.status == 204
    assert rest.ask("GET", "/v1/queues", headers=other).status == 401


def test_a_session_ends_with_its_token(rest: Rest, token: Path) -> None:
    session = signed_in(rest)
    token.write_text("another-token-another")
    eventually(lambda: rest.ask("GET", "/v1/queues", headers=session).status == 401, "the token is no longer valid")


def test_me_says_who_the_caller_is(rest: Rest, server: ServerProcess) -> None:
    assert rest.ask("GET", "/v1/me", headers=BEARER).json == {"user": "token"}
    found = rest.ask("GET", "/v1/me", headers=signed_in(rest)).json
    assert found["user"] == "token"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["session_expires"])
    assert Rest(server.rest_url).get("/v1/me") == {"user": "anonymous"}


def test_foreign_pages_neither_sign_in_nor_out(rest: Rest) -> None:
    for method in ("POST", "DELETE"):
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert rest.ask(method, "/session", headers={**BEARER, **headers}).status == 403


def test_no_log_line_has_the_token_or_the_id(guarded: ServerProcess, rest: Rest) -> None:
    session_id = signed_in(rest)["Cookie"].partition("=")[2]
    guarded.wait_for_log("session began")
    text = str(guarded.log())
    assert TOKEN not in text
    assert session_id not in text


def test_a_gateway_on_its_own_has_sessions_too(guarded: ServerProcess) -> None:
    with GatewayProcess(guarded.address) as gateway:
        rest = Rest(gateway.url)
        session = signed_in(rest)
        assert rest.ask("GET", "/v1/queues", headers=session).status == 200
        assert rest.ask("GET", "/v1/queues", headers=PAGE).status == 401
        assert gateway.stop() == 0


def test_sessions_over_grpc_there_are_none(guarded: ServerProcess, rest: Rest) -> None:
    session = signed_in(rest)
    rpc = Rpc(guarded.address, metadata=(("cookie", session["Cookie"]), ("x-queuelet-page", "1")))
    with pytest.raises(Exception, match="UNAUTHENTICATED"):
        rpc.get_queue("any")
    rpc.close()
