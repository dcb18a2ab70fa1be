"""The console over HTTP: its files, the board and its stream, without a browser."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.patience import patient
from support.rest import Rest
from support.rpc import Rpc, unique_name
from support.server_process import ServerProcess


@pytest.fixture
def rest(server: ServerProcess) -> Rest:
    """A client of the server's HTTP port."""
    return Rest(server.rest_url)


@pytest.mark.need(13)
def test_the_page_allows_only_its_own_scripts(rest: Rest) -> None:
    answer = rest.ask("GET", "/")
    assert answer.status == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert b"<script>" not in answer.body


def test_a_file_that_the_browser_has_is_not_sent_again(rest: Rest) -> None:
    for path in ("/", "/console/app/main.mjs", "/console/board"):
        tag = next(value for name, value in rest.ask("GET", path).headers.items() if name.lower() == "etag")
        again = rest.ask("GET", path, headers={"If-None-Match": f'"other", W/{tag}'})
        assert (again.status, again.body) == (304, b"")


def test_files_are_compressed_for_those_who_accept_it(rest: Rest) -> None:
    plain = rest.ask("GET", "/console/app/main.mjs")
    packed = rest.ask("GET", "/console/app/main.mjs", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert plain.headers["Content-Type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize(
    "path",
    [
        "/console/app/no-such.mjs",
        "/console/app/../../board.py",
        "/console/app/%2e%2e/%2e%2e/board.py",
        "/console/vendor/..%2f..%2fboard.py",
        "/console/app/",
        "/console/static/index.html",
        "/console/vendor/versions.json",
        "/console/app/..",
        "/console/app/%00.mjs",
    ],
)
def test_only_files_of_the_console_are_served(rest: Rest, path: str) -> None:
    answer = rest.ask("GET", path)
    assert answer.status == 404
    assert answer.json["code"] == 5


def test_the_board_has_a_list_for_each_column(rest: Rest, rpc: Rpc) -> None:
    name = unique_name("board")
    rpc.new_queue(name, limit=7, tags=[("team", "a"), ("note", "<b>")])
    rpc.add(name)
    with rest.open("GET", _live(rest)) as stream:
        while name.encode() not in stream.readline():
            pass
    board = rest.ask("GET", "/console/board").json
    i = board["name"].index(name)
    assert (board["limit"][i], board["tags"][i], board["store"][i]) == (7, ["team=a", "note=<b>"], "MEMORY")
    assert {len(values) for key, values in board.items() if isinstance(values, list) and key != "stores"} == {
        len(board["row"])
    }
    rpc.delete_queue(name)


def _live(rest: Rest) -> str:
    board = rest.ask("GET", "/console/board").json
    return f"/console/live?board={board['board']}&since={board['number']}"


@pytest.mark.need(52)
def test_changes_come_as_frames(rest: Rest, rpc: Rpc) -> None:
    name = unique_name("frames")
    with rest.open("GET", _live(rest)) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert stream.headers["Cache-Control"] == "no-store"
        assert stream.headers["X-Accel-Buffering"] == "no"
        rpc.new_queue(name)
        row = _row_of(_frame_with(stream, "queues", name), name)
        rpc.add(name)
        while next(each for each in _frame_with(stream, "counts", f"[{row},")["counts"] if each[0] == row)[1] != 1:
            pass
        rpc.delete_queue(name)
        assert row in _frame_with(stream, "gone", str(row))["gone"]


def _frame_with(stream: object, key: str, text: str) -> dict[str, Any]:
    while True:
        line = stream.readline().decode()  # type: ignore[attr-defined]  # an HTTPResponse
        assert line, "the stream ended"
        if line.startswith("data: ") and text in line and key in (frame := json.loads(line[6:])):
            return dict(frame)


def _row_of(frame: dict[str, Any], name: str) -> int:
    return int(next(each[0] for each in frame["queues"] if name in each))


def test_a_reader_of_an_unknown_board_has_to_begin_again(rest: Rest) -> None:
    answer = rest.ask("GET", "/console/live?board=other&since=0")
    assert answer.body == b"event: reset\ndata: {}\n\n"


@pytest.mark.parametrize("since", ["", "x", "-1", "1.5", "9" * 5_000])
def test_a_bad_number_is_refused_with_its_field(rest: Rest, since: str) -> None:
    answer = rest.ask("GET", f"/console/live?board=b&since={since}")
    assert answer.status == 400
    assert answer.json["reason"] == "INVALID_ARGUMENT"
    assert answer.json["error"].startswith("since: ")


@pytest.mark.parametrize("path", ["/", "/console/board", "/console/app/main.mjs", "/console/live?board=b&since=0"])
def test_foreign_pages_see_nothing(rest: Rest, path: str) -> None:
    assert rest.ask("GET", path, headers={"Sec-Fetch-Site": "cross-site"}).status == 403
    assert rest.ask("GET", path, headers={"Host": "evil.example"}).status == 403


LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
"""What a browser sends for a link on a page of another site that a user clicks."""


@pytest.mark.parametrize("path", ["/", "/?from=chat", "/api/"])
def test_a_link_on_another_site_opens_a_page(rest: Rest, path: str) -> None:
    assert rest.ask("GET", path, headers=LINK).status == 200
    assert rest.ask("GET", path, headers={**LINK, "Sec-Fetch-Site": "same-site"}).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/queues",
        "/v1/queues/orders/pop",
        "/console/board",
        "/console/app/main.mjs",
        "/openapi.json",
        "//",
        "/api/page.js",
    ],
)
def test_a_link_on_another_site_opens_nothing_else(rest: Rest, path: str) -> None:
    assert rest.ask("GET", path, headers=LINK).status == 403


@pytest.mark.parametrize(
    "other",
    [
        {"Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Dest": "embed"},
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},
    ],
)
def test_another_site_can_only_link_to_a_page(rest: Rest, other: dict[str, str]) -> None:
    assert rest.ask("GET", "/", headers={**LINK, **other}).status == 403
    assert rest.ask("POST", "/", headers=LINK).status == 403


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server with a token."""
    (tmp_path / "token").write_text("opensesame-opensesame")
    with ServerProcess("--token-file", str(tmp_path / "token")) as process:
        yield process
        assert process.stop() == 0


@pytest.mark.need(46, 47)
def test_numbers_need_the_token_and_files_do_not(guarded: ServerProcess) -> None:
    rest = Rest(guarded.rest_url)
    assert rest.ask("GET", "/").status == 200
    assert rest.ask("GET", "/console/app/main.mjs").status == 200
    for path in ("/console/board", "/console/live?board=b&since=0"):
        for token in ({}, {"Authorization": "Bearer wrong"}):
            answer = rest.ask("GET", path, headers=token)
            assert (answer.status, answer.json["reason"]) == (401, "UNAUTHENTICATED")
        assert rest.ask("GET", path, headers={"Authorization": "Bearer opensesame-opensesame"}).status == 200


def test_a_drain_ends_the_streams() -> None:
    with ServerProcess() as server:
        rest = Rest(server.rest_url)
        connection = HTTPConnection(urlsplit(server.rest_url).netloc, timeout=patient(60))
        connection.request("GET", _live(rest))
        stream = connection.getresponse()
        assert stream.readline()
        assert server.stop() == 0
        assert stream.read() is not None
        connection.close()
