"""ListQueues over several servers: pages of all queues in order of creation.

The token of a page is the time of creation and the ID of its last queue, because the numbers of queues, which a single
server uses, are different in each server and change when a shard moves.
"""

from __future__ import annotations

from collections.abc import Iterable

from queuelet.errors import InvalidArgument
from queuelet.fairness import TimeSlice
from queuelet.ids import parse_uuid
from queuelet.selector import parse_selector
from queuelet.server.endpoint import Call
from queuelet.server.forwarding.fan_in import FanIn
from queuelet.server.forwarding.origin import forwarded_call, shards_of
from queuelet.server.forwarding.owned import OwnedQueues
from queuelet.server.replies import queue_to_pb
from queuelet.server.requests import page_size_from_pb
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import NEGZ_SERVICE, SERVICE

_KEY_AND_LENGTH = 6
"""The most bytes of the key and length before a queue."""

_PAGE_OVERHEAD = 80
"""Bytes of a page that are reserved for its token."""

_MAX_DIGITS = 20

Key = tuple[int, str]
"""The time of creation and the ID of a queue."""


class ForwardedListing:
    """The method ListQueues of one service."""

    def __init__(self, service: str, owned: OwnedQueues, fan_in: FanIn) -> None:
        # Not negz/q's method, whose responses have no pages.
        self._path = f"{SERVICE}/ListQueues"
        self._is_negz = service == NEGZ_SERVICE
        self._owned = owned
        self._bounds = owned.manager.bounds
        self._fan_in = fan_in

    async def list_queues(self, data: bytes, call: Call) -> bytes:
        """Return a page of the queues in all shards, or in those that another server asks for."""
        origin = forwarded_call(call)
        shards = shards_of(call)
        request = pb.ListQueuesRequest.FromString(data)
        if origin is not None and shards is not None:
            return (await self._page(request, shards, origin)).SerializeToString()
        key_from_token(request.page_token)
        parse_selector(request.selector)
        most = page_size_from_pb(request.page_size) or self._bounds.queues

        async def here(shards: frozenset[int]) -> bytes:
            return (await self._page(request, shards, call)).SerializeToString()

        responses = await self._fan_in.call(self._path, data, here, call)
        page = merged(map(pb.ListQueuesResponse.FromString, responses), most, self._bounds.message_bytes)
        if page.next_page_token and self._is_negz and not request.page_size:
            raise InvalidArgument(
                f"page_size: all queues do not fit a response of {self._bounds.message_bytes:,} bytes; "
                f"set it to list them in pages, over gRPC with {SERVICE}, "
                "or raise --max-message-bytes of the server",
                field="page_size",
            )
        return page.SerializeToString()

    async def _page(self, request: pb.ListQueuesRequest, shards: frozenset[int], call: Call) -> pb.ListQueuesResponse:
        """Return a page of the queues in shards of this server."""
        self._owned.check(shards)
        after = key_from_token(request.page_token)
        most = page_size_from_pb(request.page_size) or self._bounds.queues
        selects = parse_selector(request.selector)
        time_slice = TimeSlice(call.peer_host)
        await time_slice.begin()
        queues = sorted(self._owned.of(shards), key=lambda queue: (queue.created, queue.id))
        response = pb.ListQueuesResponse()
        space = self._bounds.message_bytes - _PAGE_OVERHEAD
        last = after
        for queue in queues:
            key = (queue.created, queue.id)
            if key <= after or not selects(queue.definition.tags):
                continue
            message = queue_to_pb(queue)
            space -= message.ByteSize() + _KEY_AND_LENGTH
            if len(response.queues) == most or (space < 0 and response.queues):
                response.next_page_token = token_of(last)
                break
            response.queues.append(message)
            last = key
            await time_slice.give()
        self._owned.check(shards)
        return response


def merged(responses: Iterable[pb.ListQueuesResponse], most: int, most_bytes: int) -> pb.ListQueuesResponse:
    """Return one page from those of several servers.

    Queues after the last one of a page that another page follows are left out, because those in between are not known.
    """
    pages = list(responses)
    ends = [key_from_token(page.next_page_token) for page in pages if page.next_page_token]
    end = min(ends, default=None)
    queues = sorted((queue for page in pages for queue in page.queues), key=_key)
    result = pb.ListQueuesResponse()
    space = most_bytes - _PAGE_OVERHEAD
    is_cut = end is not None
    last: Key = (0, "")
    for queue in queues:
        key = _key(queue)
        space -= queue.ByteSize() + _KEY_AND_LENGTH
        is_full = len(result.queues) == most or (space < 0 and len(result.queues) > 0)
        if is_full or (end is not None and key > end):
            is_cut = True
            break
        result.queues.append(queue)
        last = key
    if is_cut:
        result.next_page_token = token_of(last if result.queues else end or last)
    return result


def _key(queue: pb.Queue) -> Key:
    return queue.meta.created.ToNanoseconds(), queue.meta.id


def token_of(key: Key) -> str:
    """Return the token of the page after a queue."""
    return f"{key[0]}.{key[1]}"


def key_from_token(token: str) -> Key:
    """Return the last queue of the page before this one; for the first page one that is before all.

    Raises:
        InvalidArgument: it is not a token.
    """
    if not token:
        return 0, ""
    created, _, queue_id = token.partition(".")
    is_time = created.isascii() and created.isdecimal() and len(created) <= _MAX_DIGITS
    if not is_time or parse_uuid(queue_id) != queue_id:
        raise InvalidArgument(
            f"page_token: {token[:80]!r} is not a token of these servers; "
            "send a next_page_token, or leave it out for the first page",
            field="page_token",
        )
    return int(created), queue_id
