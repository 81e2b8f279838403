"""`POST /v1/completions`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from polyprag.answering.answer import Answer
from polyprag.answering.reply import Reply
from polyprag.serving.asking import completion_requests
from polyprag.serving.service import Service
from polyprag.serving.streams import answered, streamed
from polyprag.serving.telling import (
    Head,
    ToldResponse,
    completion_logprobs,
    event,
    finish_told,
    sources_told,
    usage_of,
)
from polyprag.serving.wire import CompletionBody

_ROUTE, _KIND = "completions", "text_completion"


def completion_routes(service: Service) -> APIRouter:
    """Returns the route of one run."""
    router = APIRouter()

    @router.post("/v1/completions", tags=["OpenAI"])
    async def complete(body: CompletionBody, http: HttpRequest) -> Response:
        """Continues texts."""
        requests = completion_requests(body, service)
        head = Head(body.model, _KIND)
        if body.stream:
            return await streamed(
                service,
                requests,
                route=_ROUTE,
                told=lambda replies: _chunks(service, head, body, replies),
            )
        replies, answers = await answered(service, requests, route=_ROUTE, http=http)
        choices: list[dict[str, Any]] = []
        for answer in answers:
            choices += [
                _choice(service, body, answer, at, index=len(choices) + at)
                for at in range(len(answer.choices))
            ]
        own = [sources_told(reply.prepared, router=service.router_for(body)) for reply in replies]
        return ToldResponse(head.told(choices, usage=usage_of(answers), polyprag=own))

    return router


def _choice(
    service: Service, body: CompletionBody, answer: Answer, at: int, *, index: int
) -> dict[str, Any]:
    tokens, choice = service.engine.loaded.tokenizer, answer.choices[at]
    ids, noted, text = choice.ids, choice.logprobs, choice.text
    if body.max_tokens == 0:  # one was said, which the engine can't do without
        ids, noted, text = (), (), ""
    before = str(tokens.decode(list(answer.prompt_ids))) if body.echo else ""
    logprobs = None
    if body.logprobs is not None and body.echo:
        every = [None, *answer.prompt_logprobs, *noted]
        logprobs = completion_logprobs(tokens, (*answer.prompt_ids, *ids), every)
    elif body.logprobs is not None:
        logprobs = completion_logprobs(tokens, ids, noted)
    return {
        "index": index,
        "text": before + text,
        "logprobs": logprobs,
        "finish_reason": "length" if body.max_tokens == 0 else finish_told(choice),
    }


async def _chunks(
    service: Service, head: Head, body: CompletionBody, replies: Sequence[Reply]
) -> AsyncIterator[str]:
    """Yields events of all prompts' continuations as they come."""
    tokens = service.engine.loaded.tokenizer
    number = replies[0].prepared.request.n
    own = [sources_told(reply.prepared, router=service.router_for(body)) for reply in replies]
    noted = [0] * (number * len(replies))  # tokens whose log-probabilities were told
    begun = {"text": "", "logprobs": None, "finish_reason": None}
    yield event(head.told([{"index": index, **begun} for index in range(len(noted))], polyprag=own))

    def piece_told(which: int, at: int, text: str, finish: str | None = None) -> str:
        said, index = replies[which].continuations[at], which * number + at
        until = min(len(said.ids), len(said.logprobs))
        since, noted[index] = noted[index], until
        logprobs = None
        if body.logprobs is not None and until > since:
            span = slice(since, until)
            logprobs = completion_logprobs(tokens, said.ids[span], said.logprobs[span])
        told = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
        return event(head.told([told]))

    async for which, at, text in _merged(replies):
        yield piece_told(which, at, text)
    answers = [await service.answer_of(reply) for reply in replies]
    for which, answer in enumerate(answers):
        for at, choice in enumerate(answer.choices):
            yield piece_told(which, at, "", finish_told(choice))
    if body.wants_usage:
        yield event(head.told([], usage=usage_of(answers)))


async def _merged(replies: Sequence[Reply]) -> AsyncIterator[tuple[int, int, str]]:
    """Yields (which reply, which of its continuations, text) as it comes."""
    pieces: asyncio.Queue[tuple[int, int, str] | None] = asyncio.Queue()

    async def take(which: int, reply: Reply) -> None:
        try:
            async for at, text in reply.stream():
                pieces.put_nowait((which, at, text))
        finally:
            pieces.put_nowait(None)

    tasks = [asyncio.create_task(take(which, reply)) for which, reply in enumerate(replies)]
    left = len(tasks)
    try:
        while left:
            piece = await pieces.get()
            if piece is None:
                left -= 1
            else:
                yield piece
        await asyncio.gather(*tasks)  # which raises what failed
    finally:
        for task in tasks:
            task.cancel()
