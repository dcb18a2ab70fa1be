"""Commands that show what happens in a queue: `consumers`."""

from __future__ import annotations

import click

from queuelet.cli.options import ClientCommand, Options, queue_argument
from queuelet.cli.session import connect
from queuelet.cli.show import show
from queuelet.v1 import queue_pb2 as pb


@click.command(
    cls=ClientCommand,
    verb="list consumers",
    examples="""
    queuelet consumers orders
    queuelet consumers orders -o json | jq '.consumers[].name'
    """,
)
@queue_argument
@click.pass_obj
def consumers(options: Options, queue: str) -> None:
    """List who takes messages from a queue: the open streams, and the Receive calls that wait.

    Producers are not listed, because the server does not track them.
    """
    with connect(options) as server:
        response = server.call("ListConsumers", pb.ListConsumersRequest(queue_id=queue), pb.ListConsumersResponse)
    show(response, as_json=options.json)
