"""What clients send, as requests to the engine."""

from collections.abc import Sequence

from polyprag.answering.request import Key, Request
from polyprag.decoding.sampling import Sampling
from polyprag.method.prompts import Message
from polyprag.serving.failures import ApiError
from polyprag.serving.names import mode_and_keys
from polyprag.serving.service import Service
from polyprag.serving.wire import ChatBody, CompletionBody, PolypragFields

Body = ChatBody | CompletionBody


def chat_request(body: ChatBody, service: Service) -> Request:
    """Returns what a chat asks: its last message, after those before it.

    Raises:
        ApiError: names what can't be done.
    """
    for name, value in (("tools", body.tools), ("functions", body.functions)):
        if value:
            raise _cannot(name, "this server calls no functions; leave it out")
    if (body.response_format or {"type": "text"}).get("type") != "text":
        raise _cannot("response_format", "answers are plain text; leave it out")
    *before, last = body.messages
    if last.role != "user":
        raise _cannot("messages", f"the last one must be a user's, not {last.role}'s")
    if not last.text.strip():
        raise _cannot("messages", "the last one is empty")
    history = tuple(
        Message("system" if each.role == "developer" else each.role, each.text) for each in before
    )
    if not body.logprobs and body.top_logprobs is not None:
        raise _cannot("top_logprobs", "needs logprobs=true")
    sampling = _sampling(
        body,
        service,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        own_stops=not service.engine.has_turns,
    )
    return _request(body, service, sampling, question=last.text, history=history)


def completion_requests(body: CompletionBody, service: Service) -> list[Request]:
    """Returns a request for each prompt.

    Raises:
        ApiError: names what can't be done.
    """
    if body.suffix:
        raise _cannot("suffix", "this model can't fill in; leave it out")
    if (body.best_of or 1) > (body.n or 1):
        raise _cannot("best_of", "nothing is chosen among continuations; use n")
    if not body.prompts:
        raise _cannot("prompt", "there is none")
    if body.stream and body.echo:
        raise _cannot("echo", "can't be streamed")
    sampling = _sampling(
        body,
        service,
        # The one token after a prompt that is only to be scored isn't told where none is wanted.
        max_tokens=max(1, body.max_tokens) if body.max_tokens is not None else None,
        logprobs=body.logprobs,
        prompt_logprobs=body.logprobs if body.echo else None,
    )
    return [_request(body, service, sampling, prompt=prompt) for prompt in body.prompts]


def _request(
    body: Body,
    service: Service,
    sampling: Sampling,
    *,
    question: str | None = None,
    history: Sequence[Message] = (),
    prompt: str | tuple[int, ...] | None = None,
) -> Request:
    mode, keys = mode_and_keys(body.model, name=service.name, modes=service.modes)
    own = body.polyprag or PolypragFields()
    if own.mode is not None and own.mode not in service.modes:
        raise _cannot("polyprag.mode", f"the run has what these need: {', '.join(service.modes)}")
    passages: tuple[Key, ...] | None = keys
    if own.passages is not None:
        passages = tuple(own.passages)
    if own.mixture is not None and own.passages is None:
        passages = None  # which has its own
    most = service.limits.max_top_k
    if max(own.top_k or 0, len(passages or ()), len(own.mixture or ())) > most:
        raise _cannot("polyprag", f"at most {most} passages are used")
    return Request(
        question=question,
        history=tuple(history),
        prompt=prompt,
        mode=own.mode or mode,
        top_k=own.top_k,
        passages=passages,
        mixture=own.mixture,
        sampling=sampling,
        n=body.n or 1,
    )


def _sampling(
    body: Body,
    service: Service,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None = None,
    own_stops: bool = False,
) -> Sampling:
    limits, generation = service.limits, service.engine.loaded.config.generation
    if max_tokens is None:
        max_tokens = min(generation.max_new_tokens, limits.max_tokens)
    if max_tokens > limits.max_tokens:
        raise _cannot("max_tokens", f"{max_tokens} are more than {limits.max_tokens}")
    if (logprobs or 0) > limits.max_logprobs:
        raise _cannot("logprobs", f"{logprobs} are more than {limits.max_logprobs}")
    for name in ("logit_bias", "frequency_penalty", "presence_penalty"):
        if getattr(body, name):
            raise _cannot(name, "tokens are chosen by the model alone; leave it out")
    stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if own_stops:
        stops = (*stops, "\n")  # where an answer of the plain layout ends
    try:
        return Sampling(
            max_new_tokens=max_tokens,
            temperature=body.temperature or 0.0,
            top_p=body.top_p or 1.0,
            top_k=max(body.top_k or 0, 0),
            seed=None if body.seed is None else body.seed % 2**62,  # which others may be added to
            stops=tuple(stop for stop in stops if stop),
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            # A single token beside a scored prompt is told even where it ends the text.
            ends=not (body.ignore_eos or (prompt_logprobs is not None and max_tokens == 1)),
        )
    except ValueError as error:
        raise _cannot("max_tokens" if not max_tokens else "sampling", str(error)) from error


def _cannot(param: str, why: str) -> ApiError:
    return ApiError(400, f"{param}: {why}", param=param)
