"""Commands about leases, and about priorities and times of messages: real processes against a real server."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
from typing import Any

import pytest

from support.commands import Cli, Ended, assert_failed, payloads
from support.patience import patient
from support.rpc import Rpc, eventually, unique_name


def payload_of(line: Any) -> bytes:  # noqa: ANN401  # whatever was printed
    return base64.b64decode(line["message"]["payload"])


# Leases


def test_receive_leases_a_message_until_it_is_acked(cli: Cli, rpc: Rpc, name: str) -> None:
    """A line of JSON with the token, which ack accepts unchanged."""
    rpc.add_batch(name, [b"first", b"second"])
    (line,) = cli("receive", name).lines
    assert payload_of(line) == b"first"
    assert line["count"] == 1
    assert isinstance(line["token"], str)
    assert (rpc.get_queue(name).messages.ready, rpc.get_queue(name).messages.leased) == (1, 1)
    assert cli("ack", name, line["token"]).json == {"results": [{}], "durability": "DURABILITY_MEMORY"}
    assert payloads(rpc, name) == [b"second"]


def test_receive_takes_several_with_their_own_lease_and_consumer(cli: Cli, rpc: Rpc, name: str) -> None:
    """Up to the count and in order; others see the consumer's name."""
    rpc.add_batch(name, [b"%d" % number for number in range(5)])
    lines = cli("receive", name, "-n", "3", "--lease", "600", "--consumer", "me").lines
    assert list(map(payload_of, lines)) == [b"0", b"1", b"2"]
    assert len({line["token"] for line in lines}) == 3
    leased = cli("browse", name, "--state", "leased").lines
    assert [(each["consumer"], each["until"], each["count"]) for each in leased] == [
        ("me", lines[0]["deadline"], 1)
    ] * 3
    assert cli("receive", name, "-n", "9").code == 0
    assert_failed(cli("receive", name), 1, f"cannot receive: queue {name} has no message that is ready")


def test_receive_waits_for_a_message(cli: Cli, rpc: Rpc, name: str) -> None:
    """For at most --wait."""
    receiving = cli.start("receive", name, "--wait", "30", stdout=subprocess.PIPE)
    eventually(lambda: rpc.stats(name).waiting_calls == 1, "it waits")
    rpc.add(name, b"at last")
    out, _ = receiving.communicate(timeout=patient(30))
    assert payload_of(json.loads(out)) == b"at last"


@pytest.mark.parametrize("command", [["receive"], ["pop"], ["pop", "-n", "200"]], ids=" ".join)
def test_a_call_repeated_with_its_request_id_gets_the_same_messages(
    cli: Cli, rpc: Rpc, name: str, command: list[str]
) -> None:
    """So that a script can retry after a failed call."""
    rpc.add_batch(name, [b"1", b"2", b"3"])
    first, second = (cli(command[0], name, *command[1:], "--request-id", "mine") for _ in range(2))
    assert first.code == 0
    assert first == second


def test_ack_reports_which_leases_were_over(cli: Cli, rpc: Rpc, name: str) -> None:
    """The others are acked anyway, and it exits with 1."""
    rpc.add_batch(name, [b"1", b"2"])
    given_back, done = (line["token"] for line in cli("receive", name, "-n", "2").lines)
    cli("nack", name, given_back)
    cli("receive", name)
    ended = cli("ack", name, given_back, done, "7", "-o", "table")
    assert ended.code == 1
    assert ended.out.decode().splitlines() == [f"{given_back}  refused", f"{done}  acked", "7  refused"]
    first, second = ended.err.splitlines()
    assert first.startswith(f"queuelet: cannot ack {given_back}: the lease has ended: the message was redelivered")
    assert second.startswith("queuelet: cannot ack 7: no message for this token")


def test_every_refusal_is_reported_in_full(cli: Cli, rpc: Rpc, name: str) -> None:
    """Although the server sends each error message only once."""
    first, second = cli("ack", name, "1", "2").err.splitlines()
    assert second == first.replace("ack 1", "ack 2")
    assert len(second) > len("queuelet: cannot ack 2: ")


def test_nack_gives_a_message_back_with_a_reason_and_a_delay(cli: Cli, rpc: Rpc, name: str) -> None:
    """It keeps its place; the history has the consumer and the reason."""
    rpc.add_batch(name, [b"1", b"2"])
    (line,) = cli("receive", name, "--consumer", "me").lines
    assert cli("nack", name, line["token"], "--reason", "no paper", "-o", "table").out.endswith(b"  nacked\n")
    assert [payload_of(each) for each in cli("receive", name, "-n", "2").lines] == [b"1", b"2"]
    (first, _) = cli("browse", name).lines
    assert first["count"] == 2
    (tried,) = first["tries"]
    assert (tried["outcome"], tried["consumer"], tried["reason"], tried["token"]) == (
        "nacked",
        "me",
        "no paper",
        line["token"],
    )
    rpc.add(name, b"3")
    (third,) = cli("receive", name).lines
    cli("nack", name, third["token"], "--delay", "600")
    (delayed,) = cli("browse", name, "--state", "delayed").lines
    assert payload_of(delayed) == b"3"
    assert delayed["until"] > third["deadline"]


def test_extend_moves_the_end_of_a_lease(cli: Cli, rpc: Rpc, name: str) -> None:
    """From now on; an expired lease cannot be extended."""
    rpc.add(name, b"1")
    (line,) = cli("receive", name, "--lease", "5").lines
    extended = cli("extend", name, line["token"], "--lease", "600")
    assert extended.json["deadline"] > line["deadline"]
    (leased,) = cli("browse", name).lines
    assert leased["until"] == extended.json["deadline"]
    assert cli("extend", name, line["token"], "-o", "table").out.startswith(
        f"{line['token']}  extended until ".encode()
    )
    cli("nack", name, line["token"])
    ended = cli("extend", name, line["token"])
    assert ended.code == 1
    assert "the lease has ended" in ended.err


def test_a_terminal_shows_a_lease_with_its_message(cli: Cli, rpc: Rpc, name: str) -> None:
    """Token, deadline and delivery count, then the fields that `pop` shows."""
    rpc.add(name, b"hello", tags=[("size", "small")])
    shown = cli.on_terminal("receive", name).err.split()
    assert {"token", "deadline", "delivery", "size=small", "hello"} <= set(shown)


# Priorities, times and delivery settings


def test_new_says_how_a_queue_delivers(cli: Cli, rpc: Rpc) -> None:
    """As `declare` does."""
    name = unique_name()
    settings = ["--lease-seconds", "60", "--max-deliveries", "2", "--message-ttl-seconds", "9"]
    delivery = cli("new", "memory", "--name", name, *settings).json["queue"]["delivery"]
    assert delivery == {"leaseSeconds": 60, "maxDeliveries": 2, "messageTtlSeconds": "9"}
    rpc.delete_queue(name)


def test_add_takes_the_terms_of_a_message(cli: Cli, rpc: Rpc, name: str) -> None:
    """Priority, a delay or a time, and a time to live; for each line too."""
    cli("add", name, "--payload", "usual")
    cli("add", name, "--payload", "first", "--priority", "-5")
    cli("add", name, "--lines", "--priority", "7", "--ttl", "600", stdin=b"last\nvery last\n")
    late = cli("add", name, "--payload", "late", "--delay", "600").json["message"]
    dated = cli("add", name, "--payload", "dated", "--not-before", "2100-01-31T18:00:00+01:00").json["message"]
    assert late["notBefore"] > late["meta"]["created"]
    assert dated["notBefore"] == "2100-01-31T17:00:00Z"
    assert len(cli("browse", name, "--state", "delayed").lines) == 2
    taken = [line["message"] for line in cli("pop", name, "-n", "9").lines]
    assert [base64.b64decode(each["payload"]) for each in taken] == [b"first", b"usual", b"last", b"very last"]
    assert [each["priority"] for each in taken] == [-5, 0, 7, 7]
    assert [each.get("ttl") for each in taken] == [None, None, "600s", "600s"]


def test_a_table_shows_the_terms_of_a_message(cli: Cli, name: str) -> None:
    """The ones that were given."""
    flags = ("--payload", "x", "--priority", "3", "--ttl", "90", "--not-before", "2100-01-01T00:00:00Z")
    shown = cli("add", name, *flags, "-o", "table").out.decode()
    assert "priority      3\n" in shown
    assert "not before    2100-01-01 00:00:00 UTC\n" in shown
    assert "time to live  90 s\n" in shown
    assert "priority" not in cli("add", name, "--payload", "x", "-o", "table").out.decode()


def test_purge_can_be_kept_to_states(cli: Cli, rpc: Rpc, name: str) -> None:
    """Only messages in these states are purged."""
    rpc.add_batch(name, [b"leased", b"ready"])
    cli("receive", name)
    cli("add", name, "--payload", "delayed", "--delay", "600")
    assert cli("purge", name, "--all", "--state", "ready", "--state", "delayed").json == {"purged": "2"}
    assert payloads(rpc, name) == [b"leased"]
    assert cli("purge", name, "--all", "--state", "dead").json == {"purged": "0"}


def test_browse_shows_what_is_known_of_each_message(cli: Cli, rpc: Rpc, name: str) -> None:
    """In a table, a column has the details of the state."""
    rpc.add(name, b"x")
    (line,) = cli("receive", name, "--consumer", "me").lines
    assert "by me" in cli("browse", name, "-o", "table").out.decode()
    cli("nack", name, line["token"], "--reason", "no\npaper", "--delay", "600")
    row = cli("browse", name, "-o", "table").out.decode().splitlines()[1]
    assert row.startswith("delayed")
    assert "last nacked: no paper" in row
    (plain,) = cli("browse", name).lines
    assert "consumer" not in plain
    assert "reason" not in plain


def test_stats_count_what_became_of_leases(cli: Cli, rpc: Rpc, name: str) -> None:
    """In words in a table, as fields in JSON."""
    rpc.add_batch(name, [b"1", b"2"])
    for command in ("nack", "ack"):
        (line,) = cli("receive", name).lines
        cli(command, name, line["token"])
    counted = cli("stats", name).json["queue"]
    columns = ("leased", "redelivered", "acked", "nacked", "released", "expired", "buried", "redriven")
    assert [counted[each] for each in columns] == ["2", "1", "1", "1", "0", "0", "0", "0"]
    shown = cli("stats", name, "-o", "table").out.decode()
    assert "leased         2, 1 of them redelivered\n" in shown
    assert "returned       1 by nack, 0 by the end of a stream, 0 by expiry\n" in shown


# Dead messages


@pytest.fixture
def graveyard(cli: Cli, rpc: Rpc, name: str) -> str:
    """A queue with three dead messages, the second with tier=gold, and one that is not dead."""
    cli("declare", name, "--max-deliveries", "1")
    for payload, flags in (("1", []), ("2", ["-t", "tier=gold"]), ("3", [])):
        cli("add", name, "--payload", payload, *flags)
    tokens = [line["token"] for line in cli("receive", name, "-n", "3", "--consumer", "me").lines]
    cli("nack", name, *tokens, "--reason", "no paper")
    cli("add", name, "--payload", "alive")
    return name


def test_dead_list_reports_why_messages_died(cli: Cli, graveyard: str) -> None:
    """A line for each with the reason and the tries; as a table too."""
    lines = cli("dead", "list", graveyard).lines
    assert [payload_of(line) for line in lines] == [b"1", b"2", b"3"]
    assert {(line["state"], line["reason"], line["tries"][0]["reason"]) for line in lines} == {
        ("dead", "max deliveries", "no paper")
    }
    assert all(line["died"] for line in lines)
    (gold,) = cli("dead", "list", graveyard, "-l", "tier=gold").lines
    assert payload_of(gold) == b"2"
    assert len(cli("dead", "list", graveyard, "--max", "2").lines) == 2
    table = cli("dead", "list", graveyard, "-o", "table").out.decode()
    assert "max deliveries, last nacked: no paper" in table


def test_dead_redrive_makes_messages_ready_by_id_by_tag_or_all(cli: Cli, rpc: Rpc, graveyard: str) -> None:
    """They are redelivered, and keep their history; a dry run only counts."""
    first = cli("dead", "list", graveyard, "--max", "1").lines[0]["message"]["meta"]["id"]
    assert cli("dead", "redrive", graveyard, "--all", "--dry-run", "-o", "table").out == b"would redrive 3 messages\n"
    assert rpc.get_queue(graveyard).messages.dead == 3
    assert cli("dead", "redrive", graveyard, "--id", first).json == {"redriven": "1", "remaining": "0"}
    assert cli("dead", "redrive", graveyard, "-l", "tier=gold").json["redriven"] == "1"
    assert cli("dead", "redrive", graveyard, "--all", "-o", "table").out == b"redrove 1 message\n"
    redriven = cli("browse", graveyard).lines
    assert {(line["state"], line["count"], len(line["tries"])) for line in redriven} == {
        ("ready", 0, 1),
        ("ready", 0, 0),
    }


def test_dead_redrive_keeps_to_a_rate(cli: Cli, rpc: Rpc, graveyard: str) -> None:
    """^C stops it, and it reports its progress."""
    redriving = cli.start(
        "dead", "redrive", graveyard, "--all", "--rate", "1", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    eventually(lambda: rpc.get_queue(graveyard).messages.dead == 1, "two are redriven")
    redriving.send_signal(signal.SIGINT)
    out, err = redriving.communicate(timeout=patient(30))
    assert (redriving.returncode, out) == (130, b"")
    assert err.startswith(b"queuelet: interrupted; ")
    assert rpc.get_queue(graveyard).messages.dead == 1


def test_a_terminal_shows_how_far_a_redrive_is(cli: Cli, graveyard: str) -> None:
    """A progress bar, and the number at the end."""
    ended = cli.on_terminal("dead", "redrive", graveyard, "--all", "--rate", "1")
    assert "1/3" in ended.err
    assert ended.err.endswith("redrove 3 messages\n")


def test_dead_purge_touches_no_other_message(cli: Cli, rpc: Rpc, graveyard: str) -> None:
    """By tag, or all; other messages stay."""
    assert cli("dead", "purge", graveyard, "--all", "--dry-run", "-o", "table").out == b"would purge 3 messages\n"
    assert cli("dead", "purge", graveyard, "-l", "tier=gold").json == {"purged": "1"}
    assert cli("dead", "purge", graveyard, "--all", "-o", "table").out == b"purged 2 messages\n"
    assert payloads(rpc, graveyard) == [b"alive"]


def test_dead_alone_lists_its_commands(cli: Cli) -> None:
    """With the exit code of wrong usage, like queuelet without a command."""
    ended = cli("dead")
    assert ended.code == 2
    assert "redrive" in ended.err


def test_the_server_can_be_named_before_dead_after_it_and_at_the_end(cli: Cli, graveyard: str) -> None:
    """Global options are allowed anywhere."""
    address = cli.env["QUEUELET_SERVER_ADDRESS"]
    for words in (
        ["-s", address, "dead", "list", graveyard],
        ["dead", "-s", address, "list", graveyard],
        ["dead", "list", graveyard, "-s", address],
    ):
        assert Cli()(*words).code == 0


def test_an_unknown_queue_is_refused_by_every_command(cli: Cli) -> None:
    """In one line."""
    for words in (
        ["receive", "nowhere"],
        ["ack", "nowhere", "1"],
        ["nack", "nowhere", "1"],
        ["extend", "nowhere", "1"],
        ["dead", "list", "nowhere"],
        ["dead", "redrive", "nowhere", "--all"],
        ["dead", "purge", "nowhere", "--all"],
        ["consume", "nowhere", "--", "true"],
    ):
        ended: Ended = cli(*words)
        assert_failed(ended, 1, "there is no queue nowhere")
