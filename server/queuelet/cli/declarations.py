"""The commands `declare` and `remove`, which work on many queues at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, TypedDict, Unpack, cast

import click
from click.core import ParameterSource
from google.protobuf.json_format import ParseDict, ParseError

from queuelet.bounds import UNBOUNDED
from queuelet.cli.batches import batches
from queuelet.cli.failures import REFUSED, USAGE, Failure, report
from queuelet.cli.options import ClientCommand, Options, delivery_options, tag_option
from queuelet.cli.output import messages, write
from queuelet.cli.queues import STORE, store_number
from queuelet.cli.session import connect
from queuelet.cli.show import show
from queuelet.tags import Tags
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.values import tags_to_pb

_SPACE = re.compile(r"\s*")

owner_option = click.option(
    "--owner", default="", show_default=False, help="The queue's owner; a queue of another owner is refused."
)
owner_uid_option = click.option("--owner-uid", default="", show_default=False, help="The UID of the owner's object.")


class _Flags(TypedDict):
    queue_id: str
    store: str
    limit: int
    tags: Tags
    lease_seconds: int | None
    max_deliveries: int | None
    message_ttl_seconds: int | None
    draining: bool
    owner: str
    owner_uid: str
    adopt: bool


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet declare orders --limit 1000 -t team=checkout
    queuelet declare shop.orders --owner queuelet/shop/orders --owner-uid 6f9c1d8e-0b1a-4f0e-9c55-3a1f0c9be001
    echo '{"name": "mails", "tags": [{"key": "team", "value": "post"}]}' | queuelet declare -f -
    """,
)
@click.argument("name", required=False, help="The queue's name, unless --file is given.")
@click.option("-f", "--file", type=click.File("rb"), help="A file with declarations in JSON; - is standard input.")
@click.option("--store", type=STORE, default="memory", help="The store of the messages.")
@click.option("--limit", type=int, default=UNBOUNDED, help="The most messages the queue holds; -1 for unlimited.")
@tag_option
@delivery_options
@click.option("--draining", is_flag=True, help="Refuse new messages, so that consumers can empty the queue.")
@owner_option
@owner_uid_option
@click.option("--adopt", is_flag=True, help="Take the queue over from another owner.")
@click.option(
    "--id", "queue_id", default="", show_default=False, metavar="UUID", help="The ID if the queue is created."
)
@click.pass_context
def declare(context: click.Context, name: str | None, file: BinaryIO | None, **flags: Unpack[_Flags]) -> None:
    """Create queues, or update them to match their declaration. Idempotent.

    A declaration replaces the whole definition, so tags that it does not have are deleted. Prints the outcome for each
    queue, and exits with 1 if one was refused; the others are declared anyway.

    A file holds JSON objects, in a list or one after another, with the fields of QueueDeclaration (queue.proto): name,
    id, store, limit, tags, owner, adopt, delivery and draining. Only the name is required.
    """
    if (name is None) == (file is None):
        raise click.UsageError("Give either a name or --file.", context)
    if file is None:
        declarations = [_declaration(cast("str", name), flags)]
    else:
        given = [flag for flag in flags if context.get_parameter_source(flag) is ParameterSource.COMMANDLINE]
        if given:
            raise click.UsageError("--file: not allowed together with other flags; put them into the file.", context)
        declarations = list(_read(file))
    _declare(context.ensure_object(Options), declarations)


def _declaration(name: str, flags: _Flags) -> pb.QueueDeclaration:
    return pb.QueueDeclaration(
        name=name,
        id=flags["queue_id"],
        store=store_number(flags["store"]),
        limit=flags["limit"],
        tags=tags_to_pb(flags["tags"]),
        owner=pb.Owner(name=flags["owner"], uid=flags["owner_uid"]),
        adopt=flags["adopt"],
        draining=flags["draining"],
        delivery=pb.DeliverySettings(
            lease_seconds=flags["lease_seconds"],
            max_deliveries=flags["max_deliveries"],
            message_ttl_seconds=flags["message_ttl_seconds"],
        ),
    )


def _read(file: BinaryIO) -> Iterator[pb.QueueDeclaration]:
    for number, value in enumerate(_values(file.read().decode("utf-8-sig")), 1):
        if not isinstance(value, dict):
            raise Failure(f"cannot declare: declaration {number} is not an object, but {json.dumps(value)[:80]}", USAGE)
        store = value.get("store", "memory")
        full = {"limit": UNBOUNDED} | value | {"store": store.upper() if isinstance(store, str) else store}
        try:
            yield ParseDict(full, pb.QueueDeclaration())
        except ParseError as error:
            raise Failure(f"cannot declare: declaration {number}: {error}", USAGE) from error


def _values(text: str) -> Iterator[Any]:
    """Yield the items of a JSON list, or the JSON values of a text that has several."""
    decoder = json.JSONDecoder()
    at = _past_space(text, 0)
    while at < len(text):
        value, end = decoder.raw_decode(text, at)
        at = _past_space(text, end)
        yield from value if isinstance(value, list) else [value]


def _past_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _declare(options: Options, declarations: Sequence[pb.QueueDeclaration]) -> None:
    response = pb.DeclareQueuesResponse()
    with connect(options) as server:
        for batch in batches(declarations, pb.QueueDeclaration.ByteSize):
            request = pb.DeclareQueuesRequest(queues=batch)
            response.MergeFrom(server.call("DeclareQueues", request, pb.DeclareQueuesResponse))
    names = [declaration.name for declaration in declarations]
    outcomes = [_outcome(pb.DeclareResult.Outcome.Name(result.outcome)) for result in response.results]
    _finish(options, response, "declare", names, outcomes)


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet remove shop.orders shop.mails --owner queuelet/shop/orders
    """,
)
@click.argument("queues", nargs=-1, required=True, metavar="QUEUE...", help="IDs or names of queues.")
@owner_option
@owner_uid_option
@click.pass_obj
def remove(options: Options, queues: tuple[str, ...], owner: str, owner_uid: str) -> None:
    """Delete queues with all their messages, if they belong to --owner.

    Prints the outcome for each queue, and exits with 1 if one was refused. Without --owner, queues of any owner are
    deleted. A queue that does not exist is not an error.
    """
    removals = [pb.QueueRemoval(queue_id=queue, owner=pb.Owner(name=owner, uid=owner_uid)) for queue in queues]
    response = pb.RemoveQueuesResponse()
    with connect(options) as server:
        for batch in batches(removals, pb.QueueRemoval.ByteSize):
            response.MergeFrom(
                server.call("RemoveQueues", pb.RemoveQueuesRequest(queues=batch), pb.RemoveQueuesResponse)
            )
    _finish(options, response, "remove", queues, list(map(_removal, response.results)))


def _removal(result: pb.RemoveResult) -> str:
    outcome = _outcome(pb.RemoveResult.Outcome.Name(result.outcome))
    dropped = result.dropped
    lost = dropped.ready + dropped.delayed + dropped.leased + dropped.dead
    return f"{outcome} with {messages(lost)}" if lost else outcome


def _finish(
    options: Options,
    response: pb.DeclareQueuesResponse | pb.RemoveQueuesResponse,
    verb: str,
    queues: Sequence[str],
    outcomes: Sequence[str],
) -> None:
    """Print the outcome for each queue, report refusals, and exit with 1 if there were any."""
    if options.json:
        show(response, as_json=True)
    else:
        width = max(map(len, queues), default=0)
        lines = (f"{queue:{width}}  {outcome}\n" for queue, outcome in zip(queues, outcomes, strict=True))
        write("".join(lines).encode())
    errors = [each.error if each.HasField("error") else None for each in response.results]
    for queue, error in zip(queues, errors, strict=True):
        if error:
            report(f"cannot {verb} {queue}: {error.message}")
    if any(errors):
        raise click.exceptions.Exit(REFUSED)


def _outcome(name: str) -> str:
    """Return the word for an outcome."""
    return name.removeprefix("OUTCOME_").lower()
