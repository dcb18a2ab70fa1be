"""`queuelet consume`, which runs a command for each message: real processes, server restarts, and signals."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.commands import PATIENCE, Cli, Terminal
from support.relay import Relay
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess


class Consuming:
    """A running `queuelet consume`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_for(self, text: str) -> None:
        """Read standard error up to the line with this text."""
        assert self.process.stderr is not None
        while text.encode() not in (line := self.process.stderr.readline()):
            assert line, f"it ended without {text!r}"

    def end(self) -> tuple[int, str]:
        """Wait until it exits; return its exit code and the rest of standard error."""
        _, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, err.decode()


@contextmanager
def consuming(cli: Cli, queue: str, *words: str) -> Iterator[Consuming]:
    """Start a consumer; it is killed at the end of the block."""
    process = cli.start("consume", queue, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield Consuming(process)
    finally:
        process.kill()
        process.communicate()


def tries(cli: Cli, queue: str) -> list[list[str]]:
    """Return why the deliveries of each message failed."""
    return [[each["reason"] or each["outcome"] for each in line["tries"]] for line in cli("browse", queue).lines]


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def wait_for_signal(log: Path) -> str:
    """Return a shell command that waits for a file, but not forever, so that it does not outlive a failed test."""
    return f"for _ in $(seq 1000); do [ -e {log}.go ] && break; sleep 0.02; done"


def send_signal(log: Path) -> None:
    Path(f"{log}.go").touch()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file that the commands write to."""
    return tmp_path / "log"


# Results of commands


def test_a_command_that_succeeds_acks_its_message(cli: Cli, rpc: Rpc, name: str) -> None:
    """It gets the payload on standard input, byte for byte, and inherits standard output."""
    rpc.add(name, b"one\0two\xff\n")
    ended = cli("consume", name, "--once", "--", "cat")
    assert ended.out == b"one\0two\xff\n"
    assert (ended.code, ended.err) == (0, "queuelet: 1 message done, 0 failed\n")
    assert rpc.stats(name).acked == 1


def test_a_command_finds_the_delivery_in_its_environment(cli: Cli, rpc: Rpc, name: str) -> None:
    """Everything that `receive` prints, and the server's address."""
    added = rpc.add(name, b"x", tags=[("size", "small"), ("size", "grün")])
    ended = cli("consume", name, "--once", "--consumer", "me", "--", "env", "-0")
    env = dict(line.split("=", 1) for line in ended.out.decode().split("\0") if line)
    given = {key.removeprefix("QUEUELET_MESSAGE_"): value for key, value in env.items() if "_MESSAGE_" in key}
    assert (given["ID"], given["QUEUE"], given["DELIVERY_COUNT"], given["CONSUMER"]) == (added.meta.id, name, "1", "me")
    assert int(given["TOKEN"]) > 10**18, "it began with the clock, in nanoseconds"
    assert given["DEADLINE"].endswith("Z")
    assert json.loads(given["TAGS"]) == [{"key": "size", "value": "small"}, {"key": "size", "value": "grün"}]
    assert env["QUEUELET_SERVER_ADDRESS"] == cli.env["QUEUELET_SERVER_ADDRESS"]
    assert "HOLDER_TOKEN" not in given


@pytest.mark.parametrize(
    ("script", "reason"), [("exit 3", "exit code 3"), ("kill -9 $$", "killed by signal 9")], ids=["exit", "signal"]
)
def test_a_command_that_fails_gives_its_message_back(cli: Cli, rpc: Rpc, name: str, script: str, reason: str) -> None:
    """With the reason, until its deliveries are used up."""
    cli("declare", name, "--max-deliveries", "2")
    message = rpc.add(name, b"x")
    ended = cli("consume", name, "--until-empty", "--", "sh", "-c", script)
    failed = f"queuelet: message {message.meta.id} failed: {reason}\n"
    assert (ended.code, ended.err) == (1, f"{failed}{failed}queuelet: 0 messages done, 2 failed\n")
    assert tries(cli, name) == [[reason, reason]]
    assert rpc.get_queue(name).messages.dead == 1


def test_a_message_that_failed_stays_away_for_a_while(cli: Cli, rpc: Rpc, name: str) -> None:
    """With --nack-delay; --until-empty does not wait for delayed messages."""
    rpc.add(name, b"x")
    assert cli("consume", name, "--until-empty", "--nack-delay", "600", "--", "false").code == 1
    assert rpc.get_queue(name).messages.delayed == 1


def test_a_command_that_cannot_be_run_fails(cli: Cli, rpc: Rpc, name: str, tmp_path: Path) -> None:
    """Like one that ran and failed, with the system's error as the reason."""
    program = tmp_path / "program"
    program.write_bytes(b"\0not a program")
    program.chmod(0o755)
    rpc.add(name, b"x")
    assert cli("consume", name, "--once", "--", str(program)).code == 1
    assert tries(cli, name) == [[f"cannot run {program}: Exec format error"]]


def test_a_command_may_leave_its_input_unread(cli: Cli, rpc: Rpc, name: str) -> None:
    """However large it is."""
    rpc.add(name, b"x" * 1_000_000)
    assert cli("consume", name, "--once", "--", "true").code == 0


def test_a_lease_is_extended_while_the_command_runs(cli: Cli, rpc: Rpc, name: str) -> None:
    """It runs for longer than the lease, and its message is delivered once."""
    rpc.add(name, b"x")
    ended = cli("consume", name, "--once", "--lease", "1", "--", "sleep", "2.5")
    assert (ended.code, ended.err) == (0, "queuelet: 1 message done, 0 failed\n")
    stats = rpc.stats(name)
    assert (stats.leased, stats.expired, stats.acked) == (1, 0, 1)


def test_a_lease_that_was_lost_is_reported(cli: Cli, rpc: Rpc, name: str, log: Path) -> None:
    """The command keeps running; at its end a line reports that its message may be redelivered."""
    rpc.add(name, b"x")
    script = f"echo $QUEUELET_MESSAGE_TOKEN >> {log}; {wait_for_signal(log)}"
    with consuming(cli, name, "--once", "--lease", "1", "--", "sh", "-c", script) as consumer:
        eventually(lambda: bool(lines_of(log)), "the command runs")
        cli("nack", name, lines_of(log)[0])
        rpc.call("Receive", pb.ReceiveRequest(queue_id=name), pb.ReceiveResponse)
        consumer.wait_for("which may be redelivered: ")
        send_signal(log)
        code, err = consumer.end()
    assert code == 1
    assert "was done but may be redelivered: " in err
    assert err.endswith("queuelet: 0 messages done, 0 failed, 1 done that may be redelivered\n")


# Limits


def test_commands_run_at_the_same_time(cli: Cli, rpc: Rpc, name: str, log: Path) -> None:
    """Up to --concurrency, and no more."""
    rpc.add_batch(name, [b"x"] * 6)
    script = f"echo begin >> {log}; {wait_for_signal(log)}; echo end >> {log}"
    with consuming(cli, name, "-c", "3", "--until-empty", "--", "sh", "-c", script) as consumer:
        eventually(lambda: lines_of(log) == ["begin"] * 3, "three run")
        assert rpc.get_queue(name).messages.leased == 3
        send_signal(log)
        assert consumer.end() == (0, "queuelet: 6 messages done, 0 failed\n")
    assert lines_of(log).count("end") == 6


@pytest.mark.parametrize(("flags", "count"), [(["--once"], 1), (["--max-messages", "3", "-c", "2"], 3)])
def test_it_ends_after_as_many_messages_as_its_flag_says(
    cli: Cli, rpc: Rpc, name: str, flags: Sequence[str], count: int
) -> None:
    """And leases no more."""
    rpc.add_batch(name, [b"x\n"] * 5)
    ended = cli("consume", name, *flags, "--", "cat")
    assert ended.out == b"x\n" * count
    assert ended.code == 0
    stats = rpc.stats(name)
    assert (stats.leased, stats.queue.messages.ready) == (count, 5 - count)


def test_until_empty_waits_for_messages_that_others_work_on(cli: Cli, rpc: Rpc, name: str) -> None:
    """It waits, because they may be redelivered; an empty queue ends it at once."""
    assert cli("consume", name, "--until-empty", "--", "false").code == 0
    rpc.add(name, b"x")
    (held,) = cli("receive", name).lines
    with consuming(cli, name, "--until-empty", "--", "true") as consumer:
        eventually(lambda: rpc.stats(name).waiting_calls == 1, "it waits")
        cli("nack", name, held["token"])
        assert consumer.end() == (0, "queuelet: 1 message done, 0 failed\n")


def test_an_exclusive_consumer_is_the_only_one(cli: Cli, rpc: Rpc, name: str, log: Path) -> None:
    """Another exclusive consumer waits and takes over with a larger token; a shared one is refused."""
    script = f"echo $QUEUELET_MESSAGE_CONSUMER $QUEUELET_MESSAGE_HOLDER_TOKEN >> {log}"

    def start(consumer: str) -> tuple[str, ...]:
        return ("--exclusive", "--consumer", consumer, "--", "sh", "-c", script)

    with consuming(cli, name, *start("first")) as first:
        rpc.add(name, b"x")
        eventually(lambda: len(lines_of(log)) == 1, "the first has a message")
        with consuming(cli, name, *start("second")) as second:
            refused = cli("consume", name, "--", "true")
            assert refused.code == 1
            assert "is held by an exclusive consumer" in refused.err
            assert cli("pop", name).code == 1
            first.signal(signal.SIGTERM)
            code, err = first.end()
            assert code == 0
            assert f"queuelet: holds queue {name} now, with token " in err
            rpc.add(name, b"y")
            eventually(lambda: len(lines_of(log)) == 2, "the second has a message")
            second.signal(signal.SIGTERM)
            assert second.end()[0] == 0
    (one, token), (other, later) = (line.split() for line in lines_of(log))
    assert (one, other) == ("first", "second")
    assert int(token) < int(later)


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_running_commands_end(cli: Cli, rpc: Rpc, name: str, log: Path, number: signal.Signals) -> None:
    """Their messages are acked, and no other command is started."""
    rpc.add_batch(name, [b"1", b"2"])
    script = f"echo begin >> {log}; {wait_for_signal(log)}; echo end >> {log}"
    with consuming(cli, name, "--", "sh", "-c", script) as consumer:
        eventually(lambda: lines_of(log) == ["begin"], "it runs")
        consumer.signal(number)
        consumer.wait_for("queuelet: waiting for 1 running commands; a second signal stops them\n")
        send_signal(log)
        code, err = consumer.end()
    assert code == 0
    assert err == "queuelet: 1 message done, 0 failed\n"
    assert lines_of(log) == ["begin", "end"]
    assert (rpc.stats(name).acked, rpc.get_queue(name).messages.ready) == (1, 1)


@pytest.mark.parametrize(
    ("number", "code", "script"),
    [
        (signal.SIGINT, 130, "sleep 60"),
        (signal.SIGTERM, 143, "trap '' TERM; while true; do sleep 0.1; done"),
    ],
    ids=["^C", "SIGTERM, and a command that does not listen"],
)
def test_a_second_signal_stops_commands_and_gives_their_messages_back(  # noqa: PLR0917  # fixtures and a table
    cli: Cli, rpc: Rpc, name: str, log: Path, number: signal.Signals, code: int, script: str
) -> None:
    """Immediately, together with the processes that the command started."""
    rpc.add(name, b"x")
    with consuming(cli, name, "--", "sh", "-c", f"echo $$ >> {log}; {script}") as consumer:
        eventually(lambda: bool(lines_of(log)), "it runs")
        consumer.signal(number)
        consumer.wait_for("a second signal stops them")
        consumer.signal(number)
        ended, err = consumer.end()
    assert ended == code
    assert err.endswith("queuelet: 0 messages done, 0 failed\n")
    eventually(lambda: rpc.get_queue(name).messages.ready == 1, "the message is back")
    assert tries(cli, name) == [["released"]]
    assert not Path(f"/proc/{lines_of(log)[0]}").exists()


def test_ctrl_c_on_a_terminal_does_not_reach_the_command(cli: Cli, rpc: Rpc, name: str, log: Path) -> None:
    """These may finish."""
    rpc.add(name, b"x")
    script = f"echo begin >> {log}; {wait_for_signal(log)}; echo end"
    with Terminal(cli, "consume", name, "--", "sh", "-c", script) as terminal:
        eventually(lambda: lines_of(log) == ["begin"], "it runs")
        terminal.type(b"\x03")
        terminal.wait_for("a second signal stops")
        send_signal(log)
        ended = terminal.end()
    assert ended.code == 0
    assert "end\n" in ended.err
    assert ended.err.endswith("queuelet: 1 message done, 0 failed\n")


def test_a_signal_ends_a_consumer_that_waits(cli: Cli, rpc: Rpc, name: str) -> None:
    """Immediately."""
    with consuming(cli, name, "--", "true") as consumer:
        eventually(lambda: rpc.stats(name).waiting_calls == 1, "it waits")
        consumer.signal(signal.SIGTERM)
        assert consumer.end() == (0, "queuelet: 0 messages done, 0 failed\n")


def test_an_ending_consumer_takes_no_more_messages(cli: Cli, rpc: Rpc, name: str, log: Path) -> None:
    """Although it had requested eight."""
    rpc.add(name, b"long")
    script = f"echo begin >> {log}; {wait_for_signal(log)}"
    with consuming(cli, name, "-c", "8", "--", "sh", "-c", script) as consumer:
        eventually(lambda: lines_of(log) == ["begin"], "it runs")
        consumer.signal(signal.SIGTERM)
        consumer.wait_for("a second signal stops them")
        eventually(lambda: rpc.stats(name).waiting_calls == 0, "it does not stand in line any more")
        rpc.add(name, b"late")
        send_signal(log)
        assert consumer.end()[0] == 0
    assert rpc.pop(name).payload == b"late"
    assert lines_of(log) == ["begin"]


# Server restarts


def test_a_server_that_is_killed_is_waited_for(log: Path) -> None:
    """Also while the queue is missing, because a Memory queue is gone until it is declared again."""
    with ServerProcess() as server:
        cli, port = Cli(server.address), server.port
        cli("new", "memory", "--name", "orders")
        with consuming(cli, "orders", "--", "sh", "-c", f"cat >> {log}; echo >> {log}") as consumer:
            cli("add", "orders", "--payload", "before")
            eventually(lambda: lines_of(log) == ["before"], "it consumes")
            server.kill()
            time.sleep(0.5)
            with ServerProcess("--listen", f"127.0.0.1:{port}", "--metrics", "127.0.0.1:0", free_ports=False):
                time.sleep(0.5)
                cli("new", "memory", "--name", "orders")
                cli("add", "orders", "--payload", "after")
                eventually(lambda: lines_of(log) == ["before", "after"], "it consumes again")
                eventually(lambda: Cli(server.address)("stats", "orders").json["queue"]["acked"] == "1", "it acks")
                consumer.signal(signal.SIGINT)
                code, err = consumer.end()
    assert code == 0
    away, back, summary = err.splitlines()
    assert away.startswith(f"queuelet: cannot reach the server at 127.0.0.1:{port}: ")
    assert away.endswith("; retrying until it is back")
    # It misses the queue if it reconnects before the queue is created.
    assert back in {"queuelet: the server is back", "queuelet: the queue is back"}
    assert summary == "queuelet: 2 messages done, 0 failed"


def test_a_command_that_runs_while_the_server_is_away_is_done_all_the_same(log: Path) -> None:
    """The message was lost with the server's memory. Its command is not restarted, and it does not count as failed."""
    with ServerProcess() as server:
        cli, port = Cli(server.address), server.port
        cli("new", "memory", "--name", "orders")
        cli("add", "orders", "--payload", "x")
        script = f"echo begin >> {log}; {wait_for_signal(log)}"
        with consuming(cli, "orders", "--once", "--", "sh", "-c", script) as consumer:
            eventually(lambda: lines_of(log) == ["begin"], "it runs")
            server.kill()
            with ServerProcess("--listen", f"127.0.0.1:{port}", "--metrics", "127.0.0.1:0", free_ports=False):
                cli("new", "memory", "--name", "orders")
                send_signal(log)
                code, err = consumer.end()
    assert code == 0
    assert err.endswith("queuelet: 1 message done, 0 failed\n")


def test_a_message_that_comes_again_while_its_command_runs_is_not_begun_twice(
    server: ServerProcess, rpc: Rpc, name: str, log: Path
) -> None:
    """As after a lost connection: the command keeps running under the new lease."""
    rpc.add(name, b"x")
    script = f"echo begin >> {log}; {wait_for_signal(log)}"
    with (
        Relay(server.port) as relay,
        consuming(Cli(relay.address), name, "-c", "2", "--until-empty", "--", "sh", "-c", script) as consumer,
    ):
        eventually(lambda: lines_of(log) == ["begin"], "it runs")
        relay.cut()
        eventually(lambda: rpc.stats(name).redelivered == 1, "the message is redelivered")
        time.sleep(0.5)  # until it has arrived, because a redelivery during the command is another case
        send_signal(log)
        code, err = consumer.end()
    assert code == 0
    assert err.endswith("queuelet: the server is back\nqueuelet: 1 message done, 0 failed\n")
    assert lines_of(log) == ["begin"]
    stats = rpc.stats(name)
    assert (stats.leased, stats.released, stats.acked) == (2, 1, 1)


def test_a_server_that_drains_is_waited_for() -> None:
    """Like one that is killed."""
    with ServerProcess() as server:
        cli, rpc = Cli(server.address), Rpc(server.address)
        cli("new", "memory", "--name", "orders")
        with consuming(cli, "orders", "--", "true") as consumer:
            eventually(lambda: rpc.stats("orders").waiting_calls == 1, "it waits")
            rpc.close()
            assert server.stop() == 0
            time.sleep(0.5)
            assert consumer.process.poll() is None
            consumer.signal(signal.SIGTERM)
            code, err = consumer.end()
    assert code == 0
    assert "retrying until it is back" in err


def test_a_server_that_was_never_there_is_not_waited_for() -> None:
    """The address may be wrong: exit code 3, as for all commands."""
    ended = Cli("127.0.0.1:1")("consume", "orders", "--", "true")
    assert ended.code == 3
    assert ended.err.startswith("queuelet: cannot consume: cannot reach the server at 127.0.0.1:1")
    assert ended.err.count("\n") == 1


def test_a_queue_that_is_deleted_ends_it(cli: Cli, rpc: Rpc, log: Path) -> None:
    """With a summary of its work so far."""
    made = rpc.new_queue()
    with consuming(cli, made.meta.id, "--timeout", "1", "--", "true") as consumer:
        eventually(lambda: rpc.stats(made.meta.id).waiting_calls == 1, "it waits")
        rpc.delete_queue(made.meta.id)
        code, err = consumer.end()
    assert code == 1
    assert "was deleted" in err
