"""The command line as users and scripts see it: real processes against a real server."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import trustme

import queuelet.server
from queuelet.bounds import Bounds
from queuelet.cli import cli as commands
from queuelet.cli import run
from queuelet.cli.options import ClientCommand
from queuelet.server import Settings
from queuelet.v1 import queue_pb2 as pb
from support.commands import PATIENCE, QUEUELET, Cli, Ended, Terminal, assert_failed, payloads
from support.rpc import Rpc, eventually, unique_name
from support.server_process import ServerProcess

# Commands that negz/q's qcli has too


def test_q42_list_prints_what_qcli_prints(cli: Cli, rpc: Rpc, name: str) -> None:
    """In the format of jsonpb: two spaces, camelCase names, 64-bit numbers as strings, defaults included."""
    ended = cli("list")
    assert ended.code == 0
    assert ended.out.decode() == json.dumps(ended.json, indent=2, ensure_ascii=False) + "\n"
    (queue,) = [each for each in ended.json["queues"] if each["name"] == name]
    made = rpc.get_queue(name)
    assert queue["meta"]["id"] == made.meta.id
    assert queue["meta"]["tags"] == []
    assert queue["store"] == "MEMORY"
    assert queue["limit"] == "-1"
    assert queue["messages"] == {"ready": "0", "delayed": "0", "leased": "0", "dead": "0"}


def test_q42_new_prints_the_queue_it_made(cli: Cli, rpc: Rpc) -> None:
    """The store in any case, a limit, and tags, which may repeat a key."""
    queue = cli("new", "Memory", "3", "-t", "team=a", "-t", "team=b=c").json["queue"]
    made = rpc.get_queue(queue["meta"]["id"])
    assert queue["limit"] == "3"
    assert made.limit == 3
    assert [(tag.key, tag.value) for tag in made.meta.tags] == [("team", "a"), ("team", "b=c")]
    rpc.delete_queue(made.meta.id)


@pytest.mark.parametrize("limit", [[], ["-1"]], ids=["no limit", "-1"])
def test_q42_new_without_a_limit_makes_a_queue_without_a_bound(cli: Cli, rpc: Rpc, limit: list[str]) -> None:
    """Here qcli sent 0, for a queue that is always full."""
    name = unique_name()
    assert cli("new", "MEMORY", *limit, "--name", name).json["queue"]["limit"] == "-1"
    rpc.delete_queue(name)


def test_q42_new_refuses_a_store_it_does_not_know(cli: Cli) -> None:
    """Here qcli sent UNKNOWN."""
    assert_failed(
        cli("new", "tape"), 2, "cannot create a queue", "'tape' is not one of 'memory', 'disk', 'postgres', 'boltdb'"
    )


@pytest.mark.parametrize("reference", ["name", "id"])
def test_q42_get_prints_a_queue(cli: Cli, rpc: Rpc, name: str, reference: str) -> None:
    """By its ID, or by its name."""
    made = rpc.get_queue(name)
    assert cli("get", name if reference == "name" else made.meta.id).json["queue"]["meta"]["id"] == made.meta.id


def test_q42_tag_untag_and_delete_print_nothing(cli: Cli, rpc: Rpc, name: str) -> None:
    """They succeed, and print nothing."""
    assert cli("tag", name, "team", "a") == Ended(0, b"", "")
    assert [(tag.key, tag.value) for tag in rpc.get_queue(name).meta.tags] == [("team", "a")]
    assert cli("untag", name, "team", "a") == Ended(0, b"", "")
    assert not rpc.get_queue(name).meta.tags
    assert cli("delete", name) == Ended(0, b"", "")
    assert_failed(cli("get", name), 1, f"queuelet: cannot get: there is no queue {name}\n")


def test_q42_add_takes_the_payload_from_standard_input(cli: Cli, rpc: Rpc, name: str) -> None:
    """Byte for byte; prints the stored message."""
    ended = cli("add", name, "-t", "k=v", stdin=b"a\nb\0\xff\n")
    (stored,) = rpc.browse_all(name)
    assert stored.payload == b"a\nb\0\xff\n"
    assert ended.json["message"]["meta"]["id"] == stored.meta.id
    assert ended.json["message"]["meta"]["tags"] == [{"key": "k", "value": "v"}]
    assert base64.b64decode(ended.json["message"]["payload"]) == stored.payload


def test_q42_peek_leaves_and_pop_takes_the_first_message(cli: Cli, rpc: Rpc, name: str) -> None:
    """Both print it in the same way; pop also prints the durability of the removal."""
    rpc.add(name, b"first")
    rpc.add(name, b"second")
    peeked, popped = cli("peek", name), cli("pop", name)
    assert popped.json == peeked.json | {"durability": "DURABILITY_MEMORY"}
    assert base64.b64decode(popped.json["message"]["payload"]) == b"first"
    assert payloads(rpc, name) == [b"second"]


def test_q42_a_failure_prints_and_exits_with_1(cli: Cli, name: str) -> None:
    """In one line that begins with `cannot`."""
    assert_failed(cli("pop", name), 1, f"queuelet: cannot pop: queue {name} has no message that is ready\n")


def test_q42_the_server_comes_from_a_flag_anywhere_or_from_qcli_server(server: ServerProcess, name: str) -> None:
    """Before the command, after it, or as qcli's variable; the last flag wins."""
    cli = Cli()
    assert cli("-s", server.address, "get", name).code == 0
    assert cli("get", name, f"--server={server.address}").code == 0
    assert cli("get", name, env={"QCLI_SERVER": server.address}).code == 0
    assert cli("-s", "127.0.0.1:1", "get", name, "-s", server.address).code == 0
    assert cli("get", name, "-s", server.address, env={"QUEUELET_SERVER_ADDRESS": "127.0.0.1:1"}).code == 0


# More about queues


def test_list_takes_a_selector(cli: Cli, rpc: Rpc) -> None:
    """With kubectl's selector syntax."""
    tag = unique_name("team")
    made = rpc.new_queue(tags=[(tag, "a")])
    rpc.new_queue(tags=[(tag, "b")])
    assert [queue["meta"]["id"] for queue in cli("list", "-l", f"{tag}=a").json["queues"]] == [made.meta.id]
    assert_failed(cli("list", "-l", "=a"), 1, "cannot list queues: selector")


def test_declare_says_what_became_of_a_queue(cli: Cli, rpc: Rpc) -> None:
    """Created, updated, unchanged; with all its settings."""
    name = unique_name()
    flags = ["--limit", "7", "-t", "a=b", "--lease-seconds", "60", "--max-deliveries", "2", "--message-ttl-seconds"]
    flags += ["9", "--draining", "--owner", "i/n/q", "--owner-uid", "u", "--store", "memory"]
    outcomes = [cli("declare", name, *flags).json["results"][0] for _ in range(2)]
    assert [each["outcome"] for each in outcomes] == ["OUTCOME_CREATED", "OUTCOME_UNCHANGED"]
    made = rpc.get_queue(name)
    assert (made.limit, made.draining, made.owner.name, made.owner.uid) == (7, True, "i/n/q", "u")
    delivery = made.delivery
    assert (delivery.lease_seconds, delivery.max_deliveries, delivery.message_ttl_seconds) == (60, 2, 9)
    rpc.delete_queue(name)


@pytest.mark.parametrize("form", ["[{0}, {1}]", "{0}\n{1}\n"], ids=["list", "lines"])
def test_declare_reads_many_from_a_file(cli: Cli, rpc: Rpc, form: str, tmp_path: Path) -> None:
    """A JSON list, or JSON lines. Only the name is required, and a store is accepted in any case."""
    first, second = unique_name(), unique_name()
    file = tmp_path / "queues.json"
    whole = {"name": second, "store": "Memory", "limit": 3, "tags": [{"key": "a", "value": "b"}]}
    file.write_text(form.replace("{0}", json.dumps({"name": first})).replace("{1}", json.dumps(whole)))
    results = cli("declare", "-f", str(file)).json["results"]
    assert [result["queue"]["name"] for result in results] == [first, second]
    assert rpc.get_queue(first).limit == -1
    assert rpc.get_queue(second).limit == 3
    rpc.delete_queue(first)
    rpc.delete_queue(second)


def test_declare_exits_with_1_if_any_was_refused(cli: Cli, rpc: Rpc) -> None:
    """The others are declared anyway, and each refusal is reported."""
    name = unique_name()
    lines = f'{{"name": "{name}"}}\n{{"name": "{name}", "store": "DISK"}}'
    ended = cli("declare", "-f", "-", stdin=lines.encode())
    assert ended.code == 1
    assert [result["outcome"] for result in ended.json["results"]] == ["OUTCOME_CREATED", "OUTCOME_REFUSED"]
    assert ended.err.startswith(f"queuelet: cannot declare {name}: ")
    assert ended.err.count("\n") == 1
    rpc.delete_queue(name)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"name": "a"', "line 1 column"),
        ('{"label": "a"}', "declaration 1"),
        ('{"name": "a"} 3', "declaration 2"),
        ('{"name": "a", "store": "tape"}', "declaration 1"),
        ("\xff", "cannot declare"),
    ],
    ids=["cut off", "unknown field", "no object", "unknown store", "no UTF-8"],
)
def test_declare_refuses_a_file_it_cannot_read(cli: Cli, text: str, complaint: str) -> None:
    """Reports where the file is wrong, before anything is declared."""
    assert_failed(cli("declare", "-f", "-", stdin=text.encode("latin-1")), 2, complaint)


@pytest.mark.parametrize("arguments", [[], ["a", "-f", "/dev/null"], ["-f", "/dev/null", "--limit", "3"]])
def test_declare_wants_a_name_or_a_file(cli: Cli, arguments: list[str]) -> None:
    """And not together with other flags."""
    assert_failed(cli("declare", *arguments), 2, "cannot declare: ", "(see 'queuelet declare --help')")


def test_remove_drops_queues_of_an_owner_only(cli: Cli, rpc: Rpc) -> None:
    """Prints the outcome for each, and exits with 1 if one was refused."""
    mine, other = unique_name(), unique_name()
    cli("declare", mine, "--owner", "i/n/mine")
    cli("declare", other, "--owner", "i/n/other")
    ended = cli("remove", mine, other, "no-such-queue", "--owner", "i/n/mine")
    outcomes = [result["outcome"] for result in ended.json["results"]]
    assert outcomes == ["OUTCOME_REMOVED", "OUTCOME_REFUSED", "OUTCOME_ABSENT"]
    assert ended.code == 1
    assert ended.err.startswith(f"queuelet: cannot remove {other}: ")
    rpc.add(other, b"x")
    assert cli("remove", other, "-o", "table") == Ended(0, f"{other}  removed with 1 message\n".encode(), "")


def test_stats_shows_the_server_or_a_queue(cli: Cli, rpc: Rpc, name: str) -> None:
    """The whole response, as JSON."""
    rpc.add(name, b"x")
    assert cli("stats").json["server"]["stores"][0]["store"] == "MEMORY"
    assert cli("stats", name).json["queue"]["enqueued"] == "1"


def test_watch_prints_lines_until_it_is_interrupted(cli: Cli, rpc: Rpc, name: str) -> None:
    """Stores, queues, the end of the snapshot, then changes; ^C exits with 0."""
    watch = cli.start("watch", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watch.stdout is not None
    news = map(json.loads, watch.stdout)
    assert next(news)["store"]["store"] == "MEMORY"
    snapshot = list(iter(lambda: next(news), {"snapshotComplete": True}))
    assert name in [each["queue"]["name"] for each in snapshot]
    made = unique_name()
    rpc.new_queue(made)
    assert any(each.get("queue", {}).get("name") == made for each in news)
    rpc.delete_queue(made)
    assert any(each.get("removed", {}).get("name") == made for each in news)
    watch.send_signal(signal.SIGINT)
    _, err = watch.communicate(timeout=PATIENCE)
    assert (watch.returncode, err) == (0, b"")


def test_watch_prints_a_queue_whole_when_only_its_counts_have_changed(cli: Cli, rpc: Rpc) -> None:
    """And a queue of the snapshot once, though its counts come apart."""
    tag = (unique_name(), "counted")
    name = rpc.new_queue(unique_name(), tags=[tag]).name
    watch = cli.start("watch", "-l", tag[0], stdout=subprocess.PIPE)
    assert watch.stdout is not None
    news = map(json.loads, watch.stdout)
    snapshot = [each["queue"] for each in iter(lambda: next(news), {"snapshotComplete": True}) if "queue" in each]
    assert snapshot == [cli("get", name).json["queue"]]
    rpc.add(name, b"x")
    assert next(news)["queue"] == cli("get", name).json["queue"]
    plain = cli.start("watch", "-l", tag[0], "-o", "table", stdout=subprocess.PIPE)
    assert plain.stdout is not None
    assert plain.stdout.readline().decode() == f"{name}  1 ready, 0 delayed, 0 leased, 0 dead\n"
    rpc.pop(name)
    assert plain.stdout.readline().decode() == f"{name}  0 ready, 0 delayed, 0 leased, 0 dead\n"
    for each in (watch, plain):
        each.send_signal(signal.SIGINT)
        each.communicate(timeout=PATIENCE)
        assert each.returncode == 0


def test_watch_exits_with_3_when_the_server_stops() -> None:
    """So that a script can watch again."""
    with ServerProcess() as server:
        watch = Cli(server.address).start("watch", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert watch.stdout is not None
        watch.stdout.readline()
        server.stop()
        _, err = watch.communicate(timeout=PATIENCE)
    assert watch.returncode == 3
    assert err.startswith(b"queuelet: cannot watch queues: ")


# Adding


def test_add_takes_the_payload_from_a_flag_or_a_file(cli: Cli, rpc: Rpc, name: str, tmp_path: Path) -> None:
    """Instead of standard input."""
    file = tmp_path / "payload"
    file.write_bytes(b"\0file\n")
    assert cli("add", name, "--payload", "text").code == 0
    assert cli("add", name, "--file", str(file)).code == 0
    assert payloads(rpc, name) == [b"text", b"\0file\n"]


def test_add_with_an_id_adds_once(cli: Cli, rpc: Rpc, name: str) -> None:
    """The second time it returns the first message, marked as a duplicate."""
    own = "6f9c1d8e-0b1a-4f0e-9c55-3a1f0c9be001"
    responses = [cli("add", name, "--payload", "x", "--id", own).json for _ in range(2)]
    assert [response["duplicate"] for response in responses] == [False, True]
    assert payloads(rpc, name) == [b"x"]
    assert_failed(cli("add", name, "--payload", "y", "--id", own), 1, "cannot add: ")


@pytest.mark.parametrize("source", ["standard input", "file"])
def test_add_lines_adds_a_message_per_line(cli: Cli, rpc: Rpc, name: str, source: str, tmp_path: Path) -> None:
    """In order and in many calls, including empty lines and a last line without a line end."""
    lines = [b"", b"a\rb", b"x" * 100_000, *(b"%d" % number for number in range(2_500)), b"last"]
    data = b"\n".join(lines)
    file = tmp_path / "lines"
    file.write_bytes(data)
    flags = ["--file", str(file)] if source == "file" else []
    ended = cli("add", name, "--lines", "-t", "k=v", *flags, stdin=b"" if flags else data)
    assert ended.json == {"added": len(lines)}
    messages = rpc.browse_all(name)
    assert [message.payload for message in messages] == lines
    assert {(tag.key, tag.value) for message in messages for tag in message.meta.tags} == {("k", "v")}


def test_add_lines_takes_the_line_ends_of_windows_off(cli: Cli, rpc: Rpc, name: str) -> None:
    """Also if a read ends between the two characters. A last line without a line end stays complete."""
    ends = b"x" * (1024 * 1024 - 1)
    ended = cli("add", name, "--lines", stdin=b"one\r\n\r\n" + ends[:-7] + b"\r\ntwo\r\r\nlast\r")
    assert ended.json == {"added": 5}
    assert payloads(rpc, name) == [b"one", b"", ends[:-7], b"two\r", b"last\r"]


def test_durations_have_units(cli: Cli, name: str) -> None:
    assert cli("add", name, "--payload", "x", "--ttl", "1h30m").json["message"]["ttl"] == "5400s"
    assert cli("pop", name, "--timeout", "5m", "--wait", "250ms").code == 0


def test_durations_of_whole_seconds_have_units_too(cli: Cli, rpc: Rpc) -> None:
    name = unique_name()
    made = cli("new", "memory", "--name", name, "--lease-seconds", "1m30s", "--message-ttl-seconds", "1d").json
    assert made["queue"]["delivery"]["leaseSeconds"] == 90
    assert int(made["queue"]["delivery"]["messageTtlSeconds"]) == 86_400
    rpc.delete_queue(name)
    assert_failed(cli("new", "memory", "--lease-seconds", "500ms"), 2, "'500ms' is not a duration of whole seconds")


def test_add_lines_adds_what_came_so_far_when_the_input_pauses(cli: Cli, rpc: Rpc, name: str) -> None:
    """It does not wait until a batch is full."""
    adding = cli.start("add", name, "--lines", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert adding.stdin is not None
    adding.stdin.write(b"now\nlat")
    adding.stdin.flush()
    eventually(lambda: payloads(rpc, name) == [b"now"], "the first line is added")
    out, _ = adding.communicate(b"er", timeout=PATIENCE)
    assert json.loads(out) == {"added": 2}
    assert payloads(rpc, name) == [b"now", b"later"]


def test_add_lines_stops_at_a_refusal_and_says_where(cli: Cli, rpc: Rpc) -> None:
    """Reports the line, the reason and the number of messages added."""
    made = rpc.new_queue(limit=3)
    ended = cli("add", made.meta.id, "--lines", stdin=b"1\n2\n3\n4\n5\n")
    assert_failed(ended, 1, "cannot add: line 4: queue ", "is full", "3 messages added")
    rpc.delete_queue(made.meta.id)


def test_add_lines_stays_within_the_bounds_of_a_small_server() -> None:
    """A smaller limit than the command's own batches: a line that is too long is reported, earlier lines are added."""
    with ServerProcess("--max-batch", "10", "--max-message-bytes", "16Ki") as server:
        cli, rpc = Cli(server.address), Rpc(server.address)
        rpc.new_queue("small")
        lines = [b"%d" % number for number in range(40)]
        ended = cli("add", "small", "--lines", stdin=b"\n".join([*lines, b"x" * 20_000, b"after"]))
        assert_failed(ended, 1, "line 41: ", "40 messages added")
        assert payloads(rpc, "small") == lines
        rpc.close()


def test_add_waits_for_room(cli: Cli, rpc: Rpc) -> None:
    """With --wait, until a consumer removes a message."""
    made = rpc.new_queue(unique_name(), limit=1)
    rpc.add(made.name, b"first")
    adding = cli.start("add", made.name, "--payload", "second", "--wait", stdout=subprocess.PIPE)
    eventually(lambda: rpc.stats(made.name).waiting_calls == 1, "the add waits")
    rpc.pop(made.name)
    adding.communicate(timeout=PATIENCE)
    assert adding.returncode == 0
    assert_failed(cli("add", made.name, "--payload", "third", "--wait", "--timeout", "1"), 1, "is full")
    rpc.delete_queue(made.name)


@pytest.mark.parametrize("flags", [["--payload", "x", "--lines"], ["--lines", "--id", "x"], ["-t", "no-value"]])
def test_add_refuses_flags_that_do_not_go_together(cli: Cli, name: str, flags: list[str]) -> None:
    """As wrong usage, with a hint to --help."""
    assert_failed(cli("add", name, *flags), 2, "cannot add: ", "(see 'queuelet add --help')")


def test_add_lines_reports_that_nothing_was_added_when_the_server_is_away() -> None:
    """And exits with 3."""
    ended = Cli("127.0.0.1:1")("add", "orders", "--lines", stdin=b"1\n2\n")
    assert_failed(ended, 3, "cannot reach the server at 127.0.0.1:1", "; 0 messages added")
    assert "may have been" not in ended.err


def test_add_lines_reports_which_lines_are_in_doubt_when_no_response_comes() -> None:
    """And exits with 3."""
    with ServerProcess() as server:
        Cli(server.address)("new", "memory", "--name", "orders")
        adding = Cli(server.address).start(
            "add", "orders", "--lines", "--timeout", "1", stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert adding.stdin
        adding.stdin.write(b"1\n")
        adding.stdin.flush()
        eventually(lambda: Cli(server.address)("peek", "orders").code == 0, "the first line is added")
        server.signal(signal.SIGSTOP)
        _, printed = adding.communicate(b"2\n", timeout=PATIENCE)
        server.signal(signal.SIGCONT)
    assert adding.returncode == 3
    assert "1 message added, and lines 2 to 2 may have been" in printed.decode()


# Consuming


def test_pop_many_prints_a_line_each(cli: Cli, rpc: Rpc, name: str) -> None:
    """In the same form as one message, up to the count or the end of the queue."""
    rpc.add_batch(name, [b"%d" % number for number in range(250)])
    popped = cli("pop", name, "-n", "240").lines
    assert [base64.b64decode(each["message"]["payload"]) for each in popped] == [b"%d" % n for n in range(240)]
    assert len(cli("pop", name, "-n", "240").lines) == 10
    assert_failed(cli("pop", name, "-n", "240"), 1, "has no message that is ready")


def test_pop_raw_prints_payloads_only(cli: Cli, rpc: Rpc, name: str) -> None:
    """A single payload unchanged; of many, each with a newline. The output can be added again as lines."""
    rpc.add_batch(name, [b"\0one\xff", b"two", b""])
    assert cli("peek", name, "--raw").out == b"\0one\xff"
    assert cli("pop", name, "--raw").out == b"\0one\xff"
    assert cli("pop", name, "--raw", "-n", "9").out == b"two\n\n"


def test_pop_waits_for_messages(cli: Cli, rpc: Rpc, name: str) -> None:
    """Until there are as many as requested; each is printed when it arrives."""
    popping = cli.start("pop", name, "-n", "2", "--raw", "--wait", "30", stdout=subprocess.PIPE)
    assert popping.stdout is not None
    for payload in (b"a\n", b"b\n"):
        eventually(lambda: rpc.stats(name).waiting_calls == 1, "the pop waits")
        rpc.add(name, payload.strip())
        assert popping.stdout.readline() == payload
    popping.communicate(timeout=PATIENCE)
    assert popping.returncode == 0
    assert cli("pop", name, "-n", "2", "--raw", "--wait", "0.1").code == 1


def test_pop_says_how_many_messages_a_closed_pipe_lost(cli: Cli, rpc: Rpc, name: str) -> None:
    """Messages that were removed but cannot be written are reported as lost."""
    rpc.add_batch(name, [b"x" * 100] * 50)
    read, write = os.pipe()
    os.close(read)
    popping = cli.start("pop", name, "-n", "40", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    _, err = popping.communicate(timeout=PATIENCE)
    assert popping.returncode == 1
    lost = b"40 of the messages removed from the queue could not be written and are lost"
    assert err == b"queuelet: cannot pop: Broken pipe; " + lost + b"\n"
    assert rpc.stats(name).queue.messages.ready == 10


def test_pop_says_that_a_full_disk_lost_a_message(cli: Cli, rpc: Rpc, name: str) -> None:
    """As with a closed pipe."""
    rpc.add(name, b"x")
    with Path("/dev/full").open("wb") as full:
        popping = cli.start("pop", name, stdout=full, stderr=subprocess.PIPE)
    _, err = popping.communicate(timeout=PATIENCE)
    assert popping.returncode == 1
    assert b"No space left on device; 1 of the messages" in err


def test_pop_takes_nothing_where_there_is_no_standard_output(cli: Cli, rpc: Rpc, name: str) -> None:
    """Standard output is checked before anything is removed."""
    rpc.add(name, b"x")
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *QUEUELET, "pop", name]
    ended = subprocess.run(command, stderr=subprocess.PIPE, env=cli.env, timeout=PATIENCE, check=False)
    assert ended.returncode == 1
    assert ended.stderr == b"queuelet: cannot pop: standard output is closed\n"
    assert payloads(rpc, name) == [b"x"]


def test_browse_prints_every_page_and_takes_nothing(cli: Cli, rpc: Rpc, name: str) -> None:
    """A line for each message, with its state, over more than one page."""
    rpc.add_batch(name, [b"%d" % number for number in range(10_000)])
    rpc.add(name, b"gold", tags=[("tier", "gold")])
    browsed = cli("browse", name).lines
    assert [base64.b64decode(each["message"]["payload"]) for each in browsed] == payloads(rpc, name)
    assert {each["state"] for each in browsed} == {"ready"}
    (gold,) = cli("browse", name, "-l", "tier=gold", "--state", "ready", "--max", "5").lines
    assert base64.b64decode(gold["message"]["payload"]) == b"gold"
    assert len(cli("browse", name, "--max", "7").lines) == 7
    assert cli("browse", name, "--state", "dead", "--state", "leased") == Ended(0, b"", "")


def test_browse_finds_messages_by_id_and_content_and_begins_with_the_newest(cli: Cli, rpc: Rpc, name: str) -> None:
    added = [rpc.add(name, b"order %d" % number).meta.id for number in range(3)]
    assert [each["message"]["meta"]["id"] for each in cli("browse", name, "--newest-first").lines] == added[::-1]
    (found,) = cli("browse", name, "--contains", "r 1").lines
    assert (found["message"]["meta"]["id"], found["payloadSize"]) == (added[1], "7")
    two = cli("browse", name, "--id", added[2], "--id", added[0], "--newest-first", "--max", "1").lines
    assert [each["message"]["meta"]["id"] for each in two] == [added[2]]
    assert_failed(cli("browse", name, "--id", "mine"), 1, "ids: 'mine' is not a UUID")
    assert_failed(cli("browse", name, "--contains", "x" * 257), 1, "contains: 257 bytes are too many; use at most 256")


def test_browse_shows_the_beginning_and_the_size_of_a_payload_that_is_cut(cli: Cli, rpc: Rpc, name: str) -> None:
    """Also if it is cut within a character, or is no text."""
    rpc.add(name, "käse".encode() * 1_000)
    rpc.add(name, b"\xff" * 9)
    rpc.add(name, b"12")
    cut = cli("browse", name, "--payload-bytes", "2").lines
    assert [base64.b64decode(each["message"]["payload"]) for each in cut] == [b"k\xc3", b"\xff\xff", b"12"]
    assert [each["payloadSize"] for each in cut] == ["5000", "9", "2"]
    rows = cli("browse", name, "--payload-bytes", "2", "-o", "table").out.decode().splitlines()[1:]
    assert [row.partition(" UTC      0 ")[2].strip() for row in rows] == [
        "k ... (5,000 bytes)",
        "//8=  (base64: 2 bytes, not text) ... (9 bytes)",
        "12",
    ]
    rows = cli("browse", name, "--payload-bytes", "0", "-o", "table").out.decode().splitlines()[1:]
    assert [row.rpartition("  ")[2] for row in rows] == ["(5,000 bytes)", "(9 bytes)", "(2 bytes)"]


def test_browse_ends_quietly_when_its_reader_has_gone(cli: Cli, rpc: Rpc, name: str) -> None:
    """`queuelet browse orders | head -1` works as with other Unix programs."""
    rpc.add_batch(name, [b"x" * 100] * 5_000)
    browsing = cli.start("browse", name, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert browsing.stdout is not None
    browsing.stdout.readline()
    browsing.stdout.close()
    assert browsing.wait(PATIENCE) == 141
    assert browsing.stderr is not None
    with browsing.stderr:
        assert browsing.stderr.read() == b""


def test_purge_removes_by_id_by_tag_or_all(cli: Cli, rpc: Rpc, name: str) -> None:
    """And prints their number."""
    first = rpc.add(name, b"1")
    rpc.add(name, b"2", tags=[("tier", "test")])
    rpc.add_batch(name, [b"3", b"4"])
    assert cli("purge", name, "--all", "--dry-run").json == {"purged": "4"}
    assert cli("purge", name, "-l", "tier=test", "--dry-run", "-o", "table").out == b"would purge 1 message\n"
    assert cli("purge", name, "--id", first.meta.id).json == {"purged": "1"}
    assert cli("purge", name, "-l", "tier=test").json == {"purged": "1"}
    assert cli("purge", name, "--all", "-o", "table").out == b"purged 2 messages\n"
    assert_failed(cli("purge", name), 2, "give exactly one of --id, --selector and --all")
    assert_failed(cli("purge", name, "--all", "-l", "a=b"), 2, "give exactly one of --id, --selector and --all")


# On a terminal


def test_a_terminal_shows_queues_as_a_table(cli: Cli, rpc: Rpc) -> None:
    """And as JSON only if requested."""
    made = rpc.new_queue(unique_name(), limit=1_000, tags=[("team", "a")])
    rpc.add_batch(made.name, [b"x"] * 3)
    ended = cli.on_terminal("list", "-l", "team=a")
    assert ended.code == 0
    (row,) = [line.split() for line in ended.err.splitlines() if line.startswith(made.name)]
    assert row == [made.name, "Memory", "1,000", "3", "0", "0", "0", "team=a"]
    assert made.meta.id in cli.on_terminal("get", made.name).err
    assert json.loads(cli.on_terminal("get", made.name, "-o", "json").out)["queue"]["name"] == made.name
    rpc.delete_queue(made.name)


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ("grüße [red]\tund\nmehr".encode(), "grüße [red]"),
        (b"\xff\0", "/wA=  (base64: 2 bytes, not text)"),
        (b"\x1b[2J", "G1sySg==  (base64: 4 bytes, not text)"),
        (b"", "(empty)"),
    ],
    ids=["text", "binary", "commands for the terminal", "nothing"],
)
def test_a_terminal_shows_a_payload_as_text_if_it_is_some(
    cli: Cli, rpc: Rpc, name: str, payload: bytes, shown: str
) -> None:
    """Without control characters."""
    rpc.add(name, payload, tags=[("k", "\x1b[2J")])
    ended = cli.on_terminal("pop", name)
    assert shown in ended.err
    assert "k=\\x1b[2J" in ended.err
    assert b"\x1b[2J" not in ended.out


COMMANDS = "a\x1b[2J\x7f\u202eb\u2066\x9b\u200f\U000e0041c"


@pytest.mark.parametrize("command", ["pop", "peek", "browse", "receive", "get", "list"])
def test_nothing_from_elsewhere_commands_a_terminal(cli: Cli, rpc: Rpc, command: str) -> None:
    """Tags and reasons: in tables, in JSON on a terminal, and in JSON in a pipe, which keeps the exact value."""
    tags, own = [(COMMANDS, COMMANDS)], unique_name()
    name = rpc.new_queue(own, tags=[*tags, (own, "")]).name
    for _ in range(3):
        rpc.add(name, b"x", tags=tags)
    (delivery,) = rpc.call("Receive", pb.ReceiveRequest(queue_id=name, max=1), pb.ReceiveResponse).deliveries
    rpc.call("Nack", pb.NackRequest(queue_id=name, tokens=[delivery.token], reason=COMMANDS), pb.NackResponse)
    # The only queue in the table, because the names of other queues would change its layout.
    words = [command, name] if command != "list" else [command, "-l", own]
    shown = [cli.on_terminal(*words).err, cli.on_terminal(*words, "-o", "json").err, cli(*words).out.decode()]
    rpc.delete_queue(name)
    for text in shown:
        assert not [c for c in text if not c.isprintable() and c not in "\r\n\t"]
        assert "u202e" in text, "it is shown, escaped"
    read, _ = json.JSONDecoder().raw_decode(shown[-1])
    assert repr(COMMANDS) in repr(read), "JSON has the same value"


def test_a_terminal_shows_how_far_adding_is(cli: Cli, rpc: Rpc, name: str, tmp_path: Path) -> None:
    """A progress bar meanwhile, and a summary at the end."""
    file = tmp_path / "lines"
    file.write_bytes(b"x\n" * 20_000)
    ended = cli.on_terminal("add", name, "--lines", "--file", str(file))
    assert "20,000 messages" in ended.err
    assert "━" in ended.err
    assert ended.err.endswith(f"added 20,000 messages to {name}\n")


def test_a_payload_can_be_typed(cli: Cli, rpc: Rpc, name: str) -> None:
    """With a hint how to end the input."""
    ended = cli.on_terminal("add", name, typed=b"hello\n\x04")
    assert "then ^D on a line of its own" in ended.err
    assert payloads(rpc, name) == [b"hello\n"]


def test_a_terminal_shows_queues_live_until_interrupted(cli: Cli, rpc: Rpc) -> None:
    """New queues appear, and ^C exits with 0. The tag hides the queues of other tests, which would fill the screen."""
    tag = (unique_name(), "shown")
    name = rpc.new_queue(unique_name(), tags=[tag]).name
    with Terminal(cli, "watch", "-l", tag[0]) as terminal:
        terminal.wait_for(name)
        made = rpc.new_queue(unique_name(), tags=[tag]).name
        terminal.wait_for(made)
        rpc.delete_queue(made)
        terminal.process.send_signal(signal.SIGINT)
        ended = terminal.end()
    assert ended.code == 0
    assert "Traceback" not in ended.err


def test_an_interrupt_exits_with_130_and_says_what_was_done(cli: Cli, rpc: Rpc, name: str) -> None:
    """Without a traceback."""
    with Terminal(cli, "add", name, "--lines", typed=b"one\n") as terminal:
        eventually(lambda: payloads(rpc, name) == [b"one"], "the line is added")
        terminal.process.send_signal(signal.SIGINT)
        ended = terminal.end()
    assert ended.code == 130
    assert ended.err.splitlines()[-1] in {
        "queuelet: interrupted; 1 message added",
        "queuelet: interrupted; 0 messages added, and lines 1 to 1 may have been",
    }
    rpc.pop(name)
    with Terminal(cli, "pop", name, "--wait", "30") as terminal:
        eventually(lambda: rpc.stats(name).waiting_calls == 1, "the pop waits")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end().code == 130
    assert "Traceback" not in terminal.shown


# Failures


def test_an_unreachable_server_exits_with_3() -> None:
    """And reports the address."""
    assert_failed(Cli()("list", "-s", "127.0.0.1:1"), 3, "cannot list queues: cannot reach the server at 127.0.0.1:1")


def test_a_server_that_does_not_respond_exits_with_3() -> None:
    """After --timeout."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        ended = Cli(address)("get", "orders", "--timeout", "0.3")
    assert_failed(
        ended,
        3,
        f"cannot get: no response from {address} within 0.3 seconds; the call may or may not have been executed",
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["pop"], "cannot pop: missing argument 'QUEUE'"),
        (["pop", "q", "--cuont", "3"], "Did you mean '--count'?"),
        (["popp"], "Did you mean 'pop'?"),
        (["dead", "lst"], "cannot work on dead messages: no such command 'lst'. Did you mean 'list'?"),
        (["ack", "q"], "cannot ack: missing argument 'TOKEN...'"),
        (["ack", "q", "abc"], "'abc' is not a token; give the number that `queuelet receive` prints"),
        (["extend", "q", "5", "99999999999999999999"], "'99999999999999999999' is not a token; "),
        (["pop", "q", "--count", "few"], "QUEUELET_POP_COUNT'): 'few' is not a valid whole number"),
        (
            ["pop", "q", "--wait", "long"],
            "QUEUELET_POP_WAIT'): 'long' is not a duration; write seconds, or numbers with units",
        ),
        (["receive", "q", "--lease", "0"], "cannot receive: "),
        (
            ["nack", "q", "1", "--delay", "nan"],
            "QUEUELET_NACK_DELAY'): 'nan' is not a duration; write seconds, or numbers with units",
        ),
        (["nack", "q", "5", "--delay", "1e300"], "QUEUELET_NACK_DELAY'): 1e+300 is not in the range 0<=x<=315360000"),
        (["add", "q", "--payload", "x", "--delay", "inf"], "_ADD_DELAY'): inf is not in the range 0<=x<=315360000"),
        (["add", "q", "--payload", "x", "--ttl", "0"], "QUEUELET_ADD_TTL'): 0.0 is not in the range 0<x<=315360000"),
        (["consume", "q", "--nack-delay", "inf", "--", "true"], "_CONSUME_NACK_DELAY'): inf is not in the range"),
        (["list", "--timeout", "inf"], "QUEUELET_TIMEOUT'): inf is not in the range 0<=x<=315360000"),
        (["server", "--grace", "inf"], "QUEUELET_SERVER_GRACE'): inf is not in the range 0<=x<=315360000"),
        (["add", "q", "--payload", "x", "--delay", "1", "--not-before", "2030-01-01"], "give --delay or --not-before"),
        (["add", "q", "--not-before", "soon"], "'soon' is not a time; write one like 2030-01-31T18:00:00Z"),
        (["dead", "redrive", "q"], "cannot redrive: give exactly one of --id, --selector and --all"),
        (["dead", "purge", "q", "--all", "-l", "a=b"], "cannot purge dead messages: give exactly one of"),
        (["consume", "q"], "cannot consume: missing argument '-- COMMAND...'"),
        (["consume", "q", "--", "no-such-program"], "cannot consume: program no-such-program not found"),
        (["consume", "q", "--once", "--max-messages", "2", "--", "true"], "give --once or --max-messages, not both"),
        (["add", "q", "--file", "/no/such/file"], "'/no/such/file' does not exist"),
        (["list", "--tls-ca", "/no/such/file"], "'/no/such/file' does not exist"),
        (["new", "memory", "99999999999999999999"], "99999999999999999999"),
        (["get", "\udcff"], "cannot get: "),
        (["list", "-o", "xml"], "'xml' is not one of 'json', 'table'"),
        (["server", "--listen", "nowhere"], "cannot serve: 'nowhere' is not a valid address"),
        (["server", "--memory-watermark", "lots"], "'lots' is not a size"),
        (["server", "--memory-watermark", "120%"], "'120%' is not a share of the memory"),
        (["server", "--tls-cert", __file__], "cannot serve: --tls-cert, --tls-key: give both or neither"),
        (
            ["--tls-cert", __file__, "server"],
            "--tls-cert: an option of client commands; give the server's options after 'server'",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_exits_with_2(
    arguments: Sequence[str], complaint: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line."""
    for variable in [key for key in os.environ if key.startswith(("QUEUELET_", "Q_", "QCLI_"))]:
        monkeypatch.delenv(variable)
    code = run(arguments)
    out, err = capfd.readouterr()
    assert_failed(Ended(code, out.encode(), err), 2, complaint)


def test_a_port_that_is_taken_is_reported_in_one_line(server: ServerProcess) -> None:
    """Without the log lines of gRPC."""
    ended = Cli()("server", "--listen", server.address, "--metrics", "127.0.0.1:0")
    assert_failed(ended, 1, f"cannot serve: cannot listen on {server.address}")


def test_a_token_is_not_sent_in_plain_text_to_another_machine(cli: Cli, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    flags = ("--server", "192.0.2.1:10002", "--token-file", str(token))
    complaint = "the token would be sent to 192.0.2.1:10002 in plain text"
    assert_failed(cli("list", *flags), 2, "cannot list queues: ", complaint)


def test_tls_and_a_token_let_a_client_in(tmp_path: Path) -> None:
    """By flags after the command or by variables. Without the token the call is refused, without TLS it fails."""
    authority = trustme.CA()
    certificate, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@example.com")
    paths = {key: str(tmp_path / key) for key in ("ca", "crt", "key", "client-crt", "client-key", "token")}
    authority.cert_pem.write_to_path(paths["ca"])
    certificate.cert_chain_pems[0].write_to_path(paths["crt"])
    certificate.private_key_pem.write_to_path(paths["key"])
    client.cert_chain_pems[0].write_to_path(paths["client-crt"])
    client.private_key_pem.write_to_path(paths["client-key"])
    Path(paths["token"]).write_text("secret\n")
    tls = ("--tls-cert", paths["crt"], "--tls-key", paths["key"], "--tls-client-ca", paths["ca"])
    with ServerProcess(*tls, "--token-file", paths["token"]) as server:
        cli = Cli(server.address)
        mine = ("--tls-ca", paths["ca"], "--tls-cert", paths["client-crt"], "--tls-key", paths["client-key"])
        assert cli("list", *mine, "--token-file", paths["token"]).code == 0
        assert cli("list", *mine, env={"QUEUELET_TOKEN_FILE": paths["token"]}).code == 0
        assert_failed(cli("list", *mine), 1, "cannot list queues: ")
        assert_failed(cli("list", "--tls-ca", paths["ca"]), 3, "cannot reach the server")
        assert_failed(cli("list"), 3, "cannot reach the server")


# Flags and help


def every_command(group: click.Group = commands, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its name; for a command of a group, with the group's name too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from every_command(command, f"{name} ")


def options() -> Iterator[tuple[str, click.Option]]:
    """Yield every option of every command, with the command's name, which is empty for a global option."""
    for name, command in [("", commands), *every_command()]:
        for option in command.params:
            if isinstance(option, click.Option) and option.name not in {"help", "version"}:
                yield name, option


def variables(option: click.Option) -> list[str]:
    return [option.envvar] if isinstance(option.envvar, str) else list(option.envvar or ())


def test_every_flag_is_an_environment_variable() -> None:
    """Named by command and flag. Of the global options only --server differs."""
    for command, option in options():
        flag = max(option.opts, key=len).strip("-").replace("-", "_").upper()
        expected = f"QUEUELET_{re.sub('[ -]', '_', command.upper())}_{flag}" if command else f"QUEUELET_{flag}"
        assert variables(option)[0] == {"QUEUELET_SERVER": "QUEUELET_SERVER_ADDRESS"}.get(expected, expected)


def test_no_variable_clashes_with_another_or_with_those_of_kubernetes() -> None:
    """Kubernetes sets variables such as QUEUELET_PORT and QUEUELET_SERVER_SERVICE_HOST in every Pod."""
    names = [name for _, option in options() for name in variables(option)]
    assert len(names) == len(set(names))
    assert not [name for name in names if name.endswith(("_PORT", "_HOST")) or "_SERVICE_" in name or "_PORT_" in name]
    assert {"Q_LISTEN", "Q_METRICS", "Q_DEBUG", "QCLI_SERVER"} <= set(names)


def test_flags_of_commands_come_from_variables(cli: Cli, rpc: Rpc, name: str) -> None:
    """The command's own and the global ones."""
    rpc.add_batch(name, [b"a", b"b"])
    env = {"QUEUELET_POP_COUNT": "2", "QUEUELET_POP_RAW": "true"}
    assert cli("pop", name, env=env).out == b"a\nb\n"
    assert cli("list", env={"QUEUELET_OUTPUT": "table"}).out.startswith(b"QUEUE ")


@pytest.fixture
def started_with(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that servers are started with; none is really started."""
    for variable in [key for key in os.environ if key.startswith(("QUEUELET_", "Q_"))]:
        monkeypatch.delenv(variable)
    settings: list[Settings] = []
    monkeypatch.setattr(queuelet.server, "run", settings.append)
    return settings


def test_a_server_without_flags_has_the_default_settings(started_with: list[Settings]) -> None:
    """There is a single place for defaults."""
    assert run(["server"]) == 0
    assert started_with == [Settings()]


def test_a_server_refuses_a_password_on_the_command_line(
    started_with: list[Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every user of the machine can read it there, unlike a file or the environment."""
    url = "postgresql://me:secret@db/queues"
    assert run(["server", "--postgres", url]) == 2
    assert not started_with
    shown = capsys.readouterr().err
    assert "--postgres-file" in shown
    assert "secret" not in shown
    monkeypatch.setenv("QUEUELET_SERVER_POSTGRES", url)
    assert run(["server"]) == 0
    assert started_with == [Settings(postgres=url)]


def test_a_server_takes_every_setting_from_a_flag(started_with: list[Settings], tmp_path: Path) -> None:
    """All fields of Settings, and all fields of Bounds that have a flag."""
    file = tmp_path / "file"
    file.touch()
    files: dict[str, Any] = dict.fromkeys(
        ("tls_cert", "tls_key", "tls_client_ca", "token_file", "postgres_file", "peer_tls_ca"), file
    )
    bounds = {"message_bytes": 1, "queues": 2, "batch": 3, "waiting": 4, "tags": 5, "tag_key_bytes": 6}
    flags = [f"--{flag.replace('_', '-')}={path}" for flag, path in files.items()]
    flags += [f"--max-{flag.replace('_', '-')}={value}" for flag, value in bounds.items()]
    more = ["--listen=:1", "--metrics=:2", "-d", "--grace=3", "--memory-watermark=4Mi", "--quit-from-anywhere"]
    more += ["--postgres=postgresql://me@db/queues", "--postgres-schema=shop", "--postgres-lease=3"]
    more += [f"--data-dir={tmp_path}", "--http-hosts=a.example.com", "--http-hosts=b.example.com"]
    more += ["--metrics-tag=team", "--metrics-tag=tier", "--http=:3", "--http-read-only"]
    more += ["--cors=https://a.example.com", "--transport=auto"]
    more += ["--shards=3", "--advertise=host:1", "--peer-tls-name=queues.example.com"]
    more += ["--no-console", "--hide-payloads", f"--queue-objects={tmp_path}", "--queue-objects-class=fast"]
    more += ["--queue-objects-namespace=shop", "--queue-objects-namespace=mail"]
    assert run(["server", *flags, *more, "--max-tag-value-bytes=7"]) == 0
    (settings,) = started_with
    assert settings == Settings(
        listen=":1",
        shards=3,
        advertise="host:1",
        peer_tls_ca=file,
        peer_tls_name="queues.example.com",
        metrics=":2",
        debug=True,
        grace=3.0,
        data_dir=tmp_path,
        postgres="postgresql://me@db/queues",
        postgres_file=file,
        postgres_schema="shop",
        postgres_lease=3.0,
        memory_watermark=4 * 1024 * 1024,
        quit_from_anywhere=True,
        metrics_tags=("team", "tier"),
        http=":3",
        http_read_only=True,
        http_hosts=("a.example.com", "b.example.com"),
        cors=("https://a.example.com",),
        no_console=True,
        hide_payloads=True,
        queue_objects=tmp_path,
        queue_objects_namespaces=("shop", "mail"),
        queue_objects_class="fast",
        transport="auto",
        bounds=Bounds(**bounds, tag_value_bytes=7),
        tls_cert=file,
        tls_key=file,
        tls_client_ca=file,
        token_file=file,
    )
    same = [each.name for each in fields(Settings) if getattr(settings, each.name) == getattr(Settings(), each.name)]
    assert not same, "each setting has a flag"


def test_q40_a_server_reads_the_variables_of_negz_q(
    started_with: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flag's own variable takes precedence."""
    monkeypatch.setenv("Q_LISTEN", ":1")
    monkeypatch.setenv("Q_METRICS", ":2")
    monkeypatch.setenv("Q_DEBUG", "true")
    monkeypatch.setenv("QUEUELET_SERVER_METRICS", ":3")
    assert run(["server"]) == 0
    assert started_with == [Settings(listen=":1", metrics=":3", debug=True)]


@pytest.mark.parametrize(
    ("text", "size"), [("1048576", 2**20), ("512Mi", 2**29), ("2G", 2 * 10**9), ("1.5Ki", 1536), ("3k", 3000)]
)
def test_sizes_have_the_units_of_kubernetes(started_with: list[Settings], text: str, size: int) -> None:
    """Ki is 1024, K is 1000."""
    assert run(["server", "--memory-watermark", text]) == 0
    assert started_with[0].memory_watermark == size


def test_a_memory_watermark_can_be_a_share(started_with: list[Settings]) -> None:
    """Of the process's memory limit."""
    assert run(["server", "--memory-watermark", "80%"]) == 0
    assert run(["server", "--memory-watermark", "40 %"]) == 0
    whole, half = started_with
    assert whole.memory_watermark is not None
    assert half.memory_watermark is not None
    assert abs(whole.memory_watermark - 2 * half.memory_watermark) <= 2


def test_help_waits_neither_for_grpc_nor_for_protobuf_nor_for_rich() -> None:
    """And lists every command."""
    code = "import sys; from queuelet.cli import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in ended.stderr.split()}
    assert not loaded & {"grpc", "google", "rich", "aiohttp", "structlog"}
    for command in commands.list_commands(click.Context(commands)):
        assert f"\n  {command} " in ended.stdout


def test_rich_is_not_imported_for_a_pipe(server: ServerProcess) -> None:
    """Scripts should not wait for it."""
    code = "import sys; from queuelet.cli import run; run(['list']); print('rich' in sys.modules, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=Cli(server.address).env, check=True)
    assert ended.stderr == b"False\n"


def test_every_command_has_help_with_examples_and_variables(capfd: pytest.CaptureFixture[str]) -> None:
    """The command's own options and the global ones."""
    for name, command in every_command():
        assert run([*name.split(), "--help"]) == 0
        shown = capfd.readouterr().out
        assert "Examples:\n" in shown
        assert f"queuelet {name}" in shown.split("Examples:\n")[1]
        assert not isinstance(command, ClientCommand) or "QUEUELET_SERVER_ADDRESS" in shown.replace("\n", "")


def test_the_server_command_says_what_to_install_where_it_is_missing() -> None:
    """Clients work without the extra."""
    code = (
        "import sys; sys.modules['aiohttp'] = None; sys.modules['structlog'] = None\n"
        "from queuelet.cli import run\n"
        "sys.exit(run(['-s', '127.0.0.1:1', 'list']) == 3 and run(['server']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "cannot reach the server" in ended.stderr
    assert "package structlog is not installed; run: pip install 'queuelet[server]'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(cli: Cli, shell: str) -> None:
    """For each shell; the script then calls queuelet for completions."""
    ended = cli("completion", shell)
    assert ended.code == 0
    assert f"_QUEUELET_COMPLETE={shell}_complete" in ended.out.decode()
    asked = {"_QUEUELET_COMPLETE": "bash_complete", "COMP_WORDS": "queuelet pu", "COMP_CWORD": "1"}
    assert cli(env=asked).out == b"plain,purge\n"


def test_version_is_that_of_the_package(cli: Cli) -> None:
    """In the form `queuelet 1.2.3`."""
    assert cli("--version").out == f"queuelet {queuelet.__version__}\n".encode()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("pop", "men\udcfc"), "QUEUE"),
        (("tag", "orders", "name", "men\udcfc"), "VALUE"),
        (("nack", "orders", "1", "--reason", "men\udcfc"), "--reason"),
        (("add", "orders", "--payload", "x", "-t", "name=men\udcfc"), "--tag"),
        (("list", "-l", "men\udcfc"), "--selector"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_argument_that_is_not_utf_8_is_refused_by_its_name(cli: Cli, arguments: tuple[str, ...], name: str) -> None:
    assert_failed(cli(*arguments), 2, name, "not valid UTF-8")
