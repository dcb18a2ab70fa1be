"""Imports of queues that Apache Curator wrote into ZooKeeper, with the real ones on both sides."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kazoo.security import make_digest_acl

from queuelet.cli import run
from queuelet.curator.items import encode
from support.commands import PATIENCE, QUEUELET, Cli, Ended, Terminal, assert_failed
from support.curator_place import Place
from support.documents import TOOLS, commands, run_in_one_shell
from support.rpc import Rpc, eventually, unique_name
from support.server_process import ServerProcess
from tools.zookeeper import Curator

NOW = int(datetime.now(UTC).timestamp() * 1000)
"""In milliseconds since 1970."""
DAY = 86_400_000

TWENTY: list[tuple[bytes, str | int]] = [(b"item %d" % number, "") for number in range(20)]
OF_EACH_RECIPE: dict[str, list[tuple[bytes, str | int]]] = {
    "queue": TWENTY,
    "priority": [
        *((b"item %d" % number, number % 7 - 3) for number in range(20)),
        (b"last", 2**31 - 1),
        (b"first", -(2**31)),
    ],
    "delay": [(b"item %d" % number, NOW - DAY + (number * 7) % 20) for number in range(20)],
    "id": [(b"item %d" % number, f"ö{1000 - number} &=") for number in range(20)],
    "simple": TWENTY,
}


def payloads_of(items: list[tuple[bytes, str | int]]) -> list[bytes]:
    return [item for item, _ in items]


def facts(place: Place) -> list[tuple[bytes, int, list[tuple[str, str]]]]:
    """Return payload, priority and tags of each message."""
    return [(each.payload, each.priority, [(tag.key, tag.value) for tag in each.meta.tags]) for each in place.messages]


# What arrives


@pytest.mark.parametrize("recipe", OF_EACH_RECIPE)
def test_items_are_delivered_in_the_order_in_which_curator_delivers_them(place: Place, recipe: str) -> None:
    """Of two queues with the same content, Curator consumes one and the other is imported."""
    items = OF_EACH_RECIPE[recipe]
    place.put(recipe, *items)
    place.curator.put(recipe, f"{place.path}-twin", items)
    ended = place.bring("--remove")
    assert (ended.code, ended.err) == (0, "")
    counts = {"added": len(items), "duplicates": 0, "nodes": len(items), "removed": len(items)}
    assert ended.json == counts | {"left": [], "foreign": []}
    assert place.pop() == place.curator.deliver(recipe, f"{place.path}-twin", len(items))
    assert place.nodes() == []


@pytest.mark.parametrize(("recipe", "word"), [("priority", -(2**31)), ("delay", 1)])
def test_items_that_curator_requeued_come_where_curator_delivers_them(place: Place, recipe: str, word: int) -> None:
    """The requeued item has lost its priority or its delay, so it comes first."""
    twin = f"{place.path}-twin"
    for path in (place.path, twin):
        place.curator.put(recipe, path, [(b"failed", word + 5)])
        place.curator.fail(recipe, path, f"{path}-locks")
        place.curator.put(recipe, path, [(b"urgent", word), (b"urgent too", word + 1)])
    assert place.bring("--recipe", recipe).code == 0
    assert place.pop() == place.curator.deliver(recipe, twin, 3) == [b"failed", b"urgent", b"urgent too"]


def test_a_priority_is_kept(place: Place) -> None:
    place.put("priority", (b"p", -7))
    assert place.bring().code == 0
    assert facts(place) == [(b"p", -7, [])]


def test_an_id_becomes_a_tag_beside_tags_of_your_own(place: Place) -> None:
    """It is as Curator stores it, with `_` for characters that a node name must not contain."""
    place.put("id", (b"i", "order/1|a"))
    assert place.bring("--id-tag", "order", "-t", "from=curator").code == 0
    assert facts(place) == [(b"i", 0, [("from", "curator"), ("order", "order_1_a")])]


def test_c26_a_delay_is_kept(place: Place) -> None:
    place.put("delay", (b"tomorrow", NOW + DAY), (b"never", 2**63 - 1))
    assert place.bring("--recipe", "delay").code == 0
    assert [each.not_before.ToMilliseconds() for each in place.messages] == [NOW + DAY, 7_258_118_399_999]
    assert place.rpc.get_queue(place.queue).messages.delayed == 2


def test_c08_the_items_of_one_node_are_as_many_messages(place: Place) -> None:
    """Any bytes are allowed, and an empty item too."""
    items = [random.randbytes(number % 5 * 100) for number in range(100)]
    place.curator.put_multi(place.path, items)
    place.curator.put_multi(place.path, [])
    assert place.bring("--remove").json["removed"] == 2
    assert place.payloads == items


def test_many_nodes_are_brought_over_in_many_calls(place: Place) -> None:
    """There are more nodes than are read at once, and more bytes than one call may have."""
    items = [b"%d" % number + b"x" * (number % 3 * 5_000) for number in range(1_000)]
    place.create_many("qn-", items)
    assert place.bring("--remove").json["added"] == 1_000
    assert place.payloads == items
    assert place.nodes() == []


# Safe to repeat


def test_a_copy_leaves_zookeeper_as_it_is_and_can_be_made_again(place: Place) -> None:
    """Queued messages are not added twice, in whichever way the path is given."""
    place.put("queue", *TWENTY)
    assert place.bring().json["added"] == 20
    top, _, rest = place.path[1:].partition("/")
    again = place.bring("--zookeeper", f"{place.curator.address}/{top}", path=f"/{rest}").json
    assert (again["added"], again["duplicates"], again["nodes"]) == (0, 20, 20)
    assert place.payloads == place.curator.deliver("queue", place.path, 20) == payloads_of(TWENTY)


def test_an_import_that_is_killed_and_run_again_adds_each_item_once(place: Place) -> None:
    """It is killed while it waits for room, with some items added and none of their nodes removed."""
    place.limit(7)
    place.put("queue", *TWENTY)
    importing = place.start_to_bring("--remove")
    importing.kill()
    importing.communicate(timeout=PATIENCE)
    assert (len(place.payloads), len(place.nodes())) == (7, 20)
    full = place.bring("--remove")
    assert_failed(
        full, 1, "cannot import from Curator: queue ", " is full", "7 already queued; 7 removed; run the command again"
    )
    assert (len(place.payloads), len(place.nodes())) == (7, 13)
    taken = place.pop()
    while place.nodes():
        place.bring("--remove")
        taken += place.pop()
    assert taken == payloads_of(TWENTY)


def test_an_import_waits_for_room(place: Place) -> None:
    """With --wait, it waits until a consumer takes messages; no item is lost, and the order stays."""
    place.limit(3)
    place.put("queue", *TWENTY)
    importing = place.start_to_bring("--remove")
    taken: list[bytes] = []
    while len(taken) < 20:
        taken += place.pop()
    importing.communicate(timeout=PATIENCE)
    assert importing.returncode == 0
    assert taken == payloads_of(TWENTY)
    assert place.nodes() == []


def test_an_interrupt_exits_with_130_and_says_what_was_done(place: Place) -> None:
    """There is no traceback, and acknowledged nodes are removed."""
    place.limit(1)
    place.put("queue", *TWENTY)
    place.bring("--remove")
    flags = ("--remove", "--wait", "--zookeeper", place.curator.address)
    with Terminal(place.cli, "import-curator", place.queue, place.path, *flags) as terminal:
        eventually(lambda: place.rpc.stats(place.queue).waiting_calls == 1, "the import waits for room")
        terminal.type(b"\x03")
        ended = terminal.end()
    assert ended.code == 130
    assert ended.err.splitlines()[-1].startswith("queuelet: interrupted; 0 messages of 0 nodes added")
    assert "Traceback" not in ended.err
    assert len(place.nodes()) == 19


def test_a_queue_server_that_is_away_leaves_all_nodes(place: Place) -> None:
    """The exit code is 3."""
    place.put("queue", (b"a", ""))
    ended = place.bring("--remove", "--server", "127.0.0.1:1")
    assert_failed(ended, 3, "cannot reach the server at 127.0.0.1:1", "0 messages of 0 nodes added")
    assert len(place.nodes()) == 1


def test_a_zookeeper_that_goes_away_is_reported(jdk: None, cli: Cli, rpc: Rpc, tmp_path: Path) -> None:
    """Messages added before are counted, and the exit code is 3."""
    with Curator(tmp_path) as mortal:
        place = Place(mortal, None, cli, rpc)
        place.limit(1)
        rpc.add(place.queue, b"in the way")
        place.put("queue", (b"a", ""))
        importing = place.start_to_bring("--remove", "--timeout", "10")
    rpc.pop(place.queue)
    out, err = importing.communicate(timeout=PATIENCE)
    assert_failed(Ended(importing.returncode, out, err.decode()), 3, "ZooKeeper", "1 message of 1 node added")
    assert place.payloads == [b"a"]


# Nodes that are skipped


def test_c20_foreign_nodes_are_left_alone_and_named(place: Place) -> None:
    """The same holds for the shards of a QueueSharder, each of which is a queue."""
    shard = "queue-6f9c1d8e-0b1a-4f0e-9c55-3a1f0c9be001"
    place.put("queue", (b"a", ""))
    for each in ("notes", shard):
        place.create(each, b"x")
    ended = place.bring("--remove")
    assert ended.code == 0
    assert ended.json["foreign"] == ["notes", shard]
    sharded, foreign = ended.err.splitlines()
    assert sharded.endswith(f"which are separate queues; import each one: {shard}")
    assert foreign == f"queuelet: skipped nodes in {place.path} that are not Curator's: notes"
    assert place.nodes() == ["notes", shard]
    assert place.payloads == [b"a"]


def test_damaged_nodes_are_left_and_reported(place: Place) -> None:
    """The others are imported, and the exit code is 1."""
    place.put("queue", (b"a", ""))
    damaged = place.create("queue-", b"\0\1\0\1\1", sequence=True)
    place.put("queue", (b"c", ""))
    ended = place.bring("--remove")
    reason = "it is damaged: it is truncated after 0 items, within a length"
    assert ended.code == 1
    assert ended.json["left"] == [{"node": damaged, "reason": reason}]
    assert ended.err == f"queuelet: left {damaged}: {reason}\n"
    assert place.nodes() == [damaged]
    assert place.payloads == [b"a", b"c"]


@pytest.mark.parametrize("flags", [["--remove"], []], ids=["moved", "copied"])
def test_an_item_that_a_consumer_works_on_is_left(place: Place, flags: list[str]) -> None:
    """With --lock-path."""
    locks = f"{place.path}-locks"
    place.put("queue", *TWENTY)
    held = place.curator.hold(place.path, locks)
    try:
        ended = place.bring("--lock-path", locks, *flags)
        (left,) = ended.json["left"]
        assert ended.code == 1
        assert left["reason"] == "a consumer has locked it"
        assert place.payloads == [item for item in payloads_of(TWENTY) if item != held]
        assert place.nodes(locks) == [left["node"]], "locks of our own were given back"
        assert len(place.nodes()) == (1 if flags else 20)
    finally:
        place.curator.release()


def test_beside_a_consumer_that_locks_each_item_goes_one_way(place: Place) -> None:
    """Each item goes either to Curator's consumer or into the queue, and none is lost."""
    locks = f"{place.path}-locks"
    items = [b"%d" % number for number in range(1_500)]
    place.create_many("queue-", [encode([item]) for item in items])
    place.curator.consume(place.path, locks)
    try:
        while place.nodes():
            place.bring("--lock-path", locks, "--remove")
    finally:
        consumed = place.curator.stop()
    assert sorted(place.payloads + consumed) == sorted(items)


def test_a_node_that_cannot_be_removed_is_reported(place: Place) -> None:
    """Its items are in the queue, the node still exists, and the exit code is 1."""
    place.put("queue", (b"a", ""), (b"b", ""))
    parent = place.nodes()[0]
    place.create(f"{parent}/child", b"")
    ended = place.bring("--remove")
    assert ended.code == 1
    assert (ended.json["added"], ended.json["removed"]) == (2, 1)
    assert ended.err.startswith(f"queuelet: left {parent}: its items were added, but the node has children")
    assert place.payloads == [b"a", b"b"]


def test_an_item_that_the_server_refuses_is_left_and_the_others_go_on(place: Place) -> None:
    """In this case an ID is too long for a tag."""
    place.put("id", (b"a", "short"), (b"b", "l" * 5_000), (b"c", "short"))
    ended = place.bring("--remove")
    assert ended.code == 1
    assert (ended.json["added"], ended.json["removed"]) == (2, 2)
    (left,) = ended.json["left"]
    assert left["reason"].startswith("the server refused it: ")
    assert "4096 bytes" in left["reason"]
    assert place.nodes() == [left["node"]]


# Looking first


def test_a_dry_run_prints_what_would_be_added(place: Place) -> None:
    """It prints a line of JSON or text for each message, and changes nothing."""
    place.put("priority", (b"late", 3), (b"soon", -1))
    first, second = place.bring("--remove", "--dry-run", "-t", "a=b").lines
    assert (first["node"], first["priority"], first["bytes"]) == ("queue-0FFFFFFFF0000000001", -1, 4)
    assert (second["notBefore"], second["tags"]) == (None, [{"key": "a", "value": "b"}])
    shown = place.bring("--dry-run", "--output", "table").out
    assert shown.splitlines()[0] == b"queue-0FFFFFFFF0000000001  4 bytes  priority -1"
    assert (place.payloads, len(place.nodes())) == ([], 2)
    assert place.bring("--remove").json["added"] == 2
    assert [message.meta.id for message in place.messages] == [first["id"], second["id"]]


def test_an_empty_queue_is_no_error(place: Place) -> None:
    """There is nothing to do."""
    place.put("queue", (b"a", ""))
    place.curator.deliver("queue", place.path, 1)
    assert place.bring().json["added"] == 0
    printed = place.bring("--output", "table").out.decode()
    assert printed == f"{place.path} to {place.queue}: 0 messages of 0 nodes added, 0 already queued\n"


def test_a_terminal_shows_how_far_it_is(place: Place) -> None:
    """They get a progress bar, and a summary at the end."""
    place.put("queue", *TWENTY)
    flags = ("--remove", "--zookeeper", place.curator.address)
    ended = place.cli.on_terminal("import-curator", place.queue, place.path, *flags)
    assert "━" in ended.err
    assert ended.err.endswith(": 20 messages of 20 nodes added, 0 already queued; 20 removed\n")


def test_names_that_do_not_show_their_recipe_need_a_flag(place: Place) -> None:
    """A wrong guess could lose IDs or delays."""
    place.put("id", (b"a", "15551234567"))
    ended = place.bring()
    assert_failed(ended, 2, "may be a time or an ID", "--recipe", "(see 'queuelet import-curator --help')")
    assert place.bring("--recipe", "id").code == 0
    assert facts(place) == [(b"a", 0, [("curator-id", "15551234567")])]


def test_every_command_of_curator_md_works(place: Place, server: ServerProcess, tmp_path: Path) -> None:
    """Only the address of ZooKeeper, the path and the name of the queue differ."""
    place.put("queue", (b"one", ""), (b"two", ""), (b"three", ""))
    shown = commands("docs/curator.md", "Import a queue")
    assert len(shown) > 3
    name = unique_name("orders")
    script = "\n".join(shown).replace("localhost:2181", place.curator.address).replace("/queues/orders", place.path)
    script = script.replace("--name orders", f"--name {name}").replace("curator orders", f"curator {name}")
    script = f'export PATH="{TOOLS}:$PATH"\n' + script.replace("pop orders", f"pop {name}")
    done = run_in_one_shell(script, tmp_path, {"QUEUELET_SERVER_ADDRESS": server.address})
    assert done.stdout.endswith("one")
    assert '"added": 3' in done.stdout
    assert place.nodes() == []


def test_items_of_another_recipe_are_left(place: Place) -> None:
    """A wrong recipe is reported."""
    place.put("priority", (b"a", 5))
    ended = place.bring("--recipe", "queue", "--remove")
    assert ended.code == 1
    assert ended.err == f"queuelet: left {place.nodes()[0]}: its name belongs to another recipe\n"
    assert place.payloads == []


# Errors


def test_nodes_with_an_acl_need_credentials(place: Place, tmp_path: Path) -> None:
    """They are in a file, and never on the command line."""
    place.zookeeper.add_auth("digest", "shop:secret")
    acl = [make_digest_acl("shop", "secret", all=True)]
    place.zookeeper.ensure_path(place.path, acl=acl)
    place.create("qn-", b"a", acl=acl, sequence=True)
    assert_failed(place.bring(), 1, "give --zookeeper-auth-file")
    file = tmp_path / "auth"
    file.write_text("secret\n")
    refused = place.bring("--zookeeper-auth-file", str(file))
    assert_failed(refused, 2, f"--zookeeper-auth-file: {file} has no user:password")
    file.write_text("shop:secret\n")
    assert place.bring("--remove", "--zookeeper-auth-file", str(file)).code == 0
    assert place.payloads == [b"a"]


def test_a_missing_path_is_reported(place: Place) -> None:
    """So is the path of the locks."""
    assert_failed(place.bring(), 1, f"has no node {place.path}; give the path that the queue was built with")
    place.put("queue", (b"a", ""))
    ended = place.bring("--lock-path", "/no/locks")
    assert_failed(ended, 1, "has no node /no/locks; give --lock-path as the consumers were built with")


def test_a_missing_zookeeper_is_reported(cli: Cli) -> None:
    """At once, with the reason for each server."""
    ended = cli("import-curator", "orders", "/q", "--zookeeper", "127.0.0.1:1,nowhere.invalid:2181")
    assert_failed(ended, 3, "cannot reach ZooKeeper (127.0.0.1:1: Connection refused; nowhere.invalid:2181: ")
    assert "give its servers with --zookeeper" in ended.err


def test_a_zookeeper_that_does_not_respond_is_reported(cli: Cli) -> None:
    """After --timeout."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        ended = cli("import-curator", "orders", "/q", "--zookeeper", address, "--timeout", "0.3")
    assert_failed(ended, 3, f"ZooKeeper at {address} did not respond within --timeout")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["orders", "/q"], "missing option '--zookeeper'"),
        (
            ["orders", "q", "--zookeeper", "a:1"],
            "PATH: 'q' is not the path of a node; write it from the root, as in /queues/orders",
        ),
        (["orders", "/", "--zookeeper", "a:1"], "'/' is not the path of a node"),
        (["orders", "/q/", "--zookeeper", "a:1"], "'/q/' is not the path of a node"),
        (["orders", "/q/../r", "--zookeeper", "a:1"], "'/q/../r' is not the path of a node"),
        (["orders", "/q", "--zookeeper", "a:port"], "--zookeeper: 'a:port' is not valid; write host:port,host:port"),
        (["orders", "/q", "--zookeeper", ""], "--zookeeper: '' is not valid"),
        (["orders", "/q", "--zookeeper", "a:1", "--recipe", "heap"], "'heap' is not one of 'queue', 'priority'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_exits_with_2(arguments: list[str], complaint: str, capfd: pytest.CaptureFixture[str]) -> None:
    """One line names the mistake."""
    code = run(["import-curator", *arguments])
    out, err = capfd.readouterr()
    assert_failed(Ended(code, out.encode(), err), 2, "cannot import from Curator: ", complaint)


def test_a_client_without_the_extra_says_what_to_install(cli: Cli) -> None:
    """Without an import, kazoo need not be installed."""
    code = "import sys; sys.modules['kazoo'] = None; from queuelet.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "import-curator", "orders", "/q", "--zookeeper", "a:1"]
    ended = subprocess.run(command, capture_output=True, env=cli.env, timeout=PATIENCE, check=False)
    assert_failed(Ended(ended.returncode, ended.stdout, ended.stderr.decode()), 1, "pip install 'queuelet[curator]'")
    assert subprocess.run([*QUEUELET, "import-curator", "--help"], capture_output=True, check=True).stderr == b""
