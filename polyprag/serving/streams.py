"""Requests are answered whole, or as events while they come; a client that leaves ends its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from fastapi import Request as HttpRequest
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from polyprag.answering.answer import Answer
from polyprag.answering.reply import Reply
from polyprag.answering.request import Request
from polyprag.serving.failures import GONE, ApiError, api_error_of
from polyprag.serving.room import Room
from polyprag.serving.service import Service
from polyprag.serving.telling import event

Result = TypeVar("Result")


async def answered(
    service: Service, requests: Sequence[Request], *, route: str, http: HttpRequest
) -> tuple[list[Reply], list[Answer]]:
    """Answers requests whole, unless the client goes."""
    with _room_for(service, requests, route) as room:
        async with room.timeout():
            replies = await service.begun(requests)
            return replies, await _unless_gone(service.ended(replies), _gone(http))


async def streamed(
    service: Service,
    requests: Sequence[Request],
    *,
    route: str,
    told: Callable[[list[Reply]], AsyncIterator[str]],
) -> StreamingResponse:
    """Answers requests by events; what is wrong with them is told before the first.

    Args:
        service: who answers.
        requests: of one client's.
        route: for the counters.
        told: yields the events of their replies.
    """
    room = _room_for(service, requests, route)
    try:
        async with room.timeout():
            replies = await service.begun(requests)
    except BaseException as error:
        room.leave(error)
        raise
    return _EventStream(room, replies, told(replies))


def _room_for(service: Service, requests: Sequence[Request], route: str) -> Room:
    number = sum(request.n for request in requests)
    return service.accept(number, route=route, mode=requests[0].mode)


class _EventStream(StreamingResponse):
    """Events, with the room and the replies that end with them, however they end."""

    def __init__(self, room: Room, replies: Sequence[Reply], told: AsyncIterator[str]) -> None:
        self._room, self._replies = room, replies
        super().__init__(
            self._events(told),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._room:
            try:
                await super().__call__(scope, receive, send)
            finally:
                if not all(reply.is_done for reply in self._replies):
                    self._room.failed_by(asyncio.CancelledError())
                for reply in self._replies:
                    reply.cancel()

    async def _events(self, told: AsyncIterator[str]) -> AsyncIterator[str]:
        try:
            async with self._room.timeout():
                async for each in told:
                    yield each
        except Exception as error:
            self._room.failed_by(error)
            yield event(api_error_of(error).body)
        yield event("[DONE]")


async def _gone(http: HttpRequest) -> None:
    """Returns when the client has gone."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def _unless_gone(work: Awaitable[Result], gone: Awaitable[None]) -> Result:
    """Returns what work comes to, and gives it up when the client has gone.

    Raises:
        ApiError: it has.
    """
    task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone)
    try:
        await asyncio.wait([task, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(GONE, "the client has gone")
        return await task
    finally:
        for each in (task, leaving):
            each.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await each
