"""`POST /v1/chat/completions`."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from polyprag.answering.answer import Answer
from polyprag.answering.reply import Reply
from polyprag.serving.asking import chat_request
from polyprag.serving.service import Service
from polyprag.serving.streams import answered, streamed
from polyprag.serving.telling import (
    Head,
    ToldResponse,
    chat_logprobs,
    event,
    finish_told,
    sources_told,
    trust_told,
    usage_of,
)
from polyprag.serving.wire import ChatBody
from polyprag.tokens.thinking import ThinkingStream, begins_thinking, split_thinking

_ROUTE = "chat"
_LAST_TOKENS = 8  # of a prompt, which hold the tag that some templates end with


def chat_routes(service: Service) -> APIRouter:
    """Returns the route of one run."""
    router = APIRouter()

    @router.post("/v1/chat/completions", tags=["OpenAI"])
    async def complete_chat(body: ChatBody, http: HttpRequest) -> Response:
        """Answers the last message of a chat."""
        request = chat_request(body, service)
        if body.stream:
            head = Head(body.model, "chat.completion.chunk")
            return await streamed(
                service,
                [request],
                route=_ROUTE,
                told=lambda replies: _chunks(service, head, body, replies[0]),
            )
        (reply,), (answer,) = await answered(service, [request], route=_ROUTE, http=http)
        head = Head(body.model, "chat.completion")
        choices = [_choice(service, body, answer, at) for at in range(len(answer.choices))]
        own = sources_told(reply.prepared, router=service.router_for(body))
        own["trust"] = trust_told(answer)
        return ToldResponse(head.told(choices, usage=usage_of([answer]), polyprag=own))

    return router


def _keeps_back(service: Service, answer: Answer) -> bool:
    return service.refuses and answer.trusted is False


def _choice(service: Service, body: ChatBody, answer: Answer, at: int) -> dict[str, Any]:
    choice = answer.choices[at]
    thinking, text = split_thinking(choice.text)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if thinking:
        message["reasoning_content"] = thinking
    logprobs = None
    if _keeps_back(service, answer):
        message = {"role": "assistant", "content": None, "refusal": answer.reason}
    elif body.logprobs:
        tokens = service.engine.loaded.tokenizer
        logprobs = chat_logprobs(tokens, choice.ids, choice.logprobs)
    told = {"index": at, "message": message, "finish_reason": finish_told(choice)}
    return told | {"logprobs": logprobs}


def _pieces(thought: str, said: str) -> dict[str, str]:
    pieces = {"reasoning_content": thought, "content": said}
    return {key: text for key, text in pieces.items() if text}


async def _chunks(service: Service, head: Head, body: ChatBody, reply: Reply) -> AsyncIterator[str]:
    """Yields a chat's events: what it is made of, then text as it comes, then why it ended."""
    number = reply.prepared.request.n
    own = sources_told(reply.prepared, router=service.router_for(body))

    def delta(at: int, told: dict[str, Any], *, finish: str | None = None) -> dict[str, Any]:
        return {"index": at, "delta": told, "logprobs": None, "finish_reason": finish}

    begins = [delta(at, {"role": "assistant", "content": ""}) for at in range(number)]
    yield event(head.told(begins, polyprag=own))
    noted = [0] * number  # tokens whose log-probabilities were told
    has_begun = [False] * number
    tokens = service.engine.loaded.tokenizer
    is_inside = begins_thinking(str(tokens.decode(reply.prepared.prompt[-_LAST_TOKENS:])))
    thinking = [ThinkingStream(is_inside=is_inside) for _ in range(number)]

    def logprobs_since(at: int) -> dict[str, Any] | None:
        said = reply.continuations[at]
        until = min(len(said.ids), len(said.logprobs))
        since, noted[at] = noted[at], until
        if not body.logprobs or since == until:
            return None
        return chat_logprobs(tokens, said.ids[since:until], said.logprobs[since:until])

    if not service.refuses:  # else nothing is shown that isn't judged yet
        async for at, piece in reply.stream():
            thought, said = thinking[at].put(piece)
            shown = said if has_begun[at] else said.lstrip()
            has_begun[at] |= bool(shown)
            if told := _pieces(thought, shown):
                yield event(head.told([{**delta(at, told), "logprobs": logprobs_since(at)}]))
        for at, split in enumerate(thinking):
            if told := _pieces(*split.end()):
                yield event(head.told([delta(at, told)]))
    else:
        await reply.wait()
    answer = await service.answer_of(reply)
    if service.refuses:
        key = "refusal" if _keeps_back(service, answer) else "content"
        for at, choice in enumerate(answer.choices):
            text = answer.reason if key == "refusal" else split_thinking(choice.text)[1]
            yield event(head.told([delta(at, {key: text})]))
    ends = [delta(at, {}, finish=finish_told(choice)) for at, choice in enumerate(answer.choices)]
    if not _keeps_back(service, answer):
        ends = [{**end, "logprobs": logprobs_since(at)} for at, end in enumerate(ends)]
    yield event(head.told(ends, polyprag={"trust": trust_told(answer)}))
    if body.wants_usage:
        yield event(head.told([], usage=usage_of([answer])))
