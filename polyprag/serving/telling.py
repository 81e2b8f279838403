"""Answers as OpenAI's clients read them, whole or in pieces; `polyprag` is what they're made of."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from fastapi.responses import JSONResponse
from transformers import PreTrainedTokenizerBase

from polyprag.answering.answer import Answer, Choice
from polyprag.answering.preparation import Prepared
from polyprag.config import RouterConfig
from polyprag.decoding.sampling import TokenLogprobs
from polyprag.method.router import gates as gates_of_rows
from sharding.storage.decoding import shown_json

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """What every piece of one response begins with."""

    model: str
    kind: str  # OpenAI's `object`
    id: str = field(default_factory=lambda: f"polyprag-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def told(self, choices: list[Json], **more: Any) -> Json:
        """Returns a response, or a piece of one."""
        own = {"id": self.id, "object": self.kind, "created": self.created, "model": self.model}
        return {**own, "choices": choices, **more}


def usage_of(answers: Sequence[Answer]) -> Json:
    """Returns how many tokens were read and said."""
    read = sum(answer.prompt_tokens for answer in answers)
    said = sum(len(choice.ids) for answer in answers for choice in answer.choices)
    return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}


def sources_told(prepared: Prepared, *, router: RouterConfig | None) -> Json:
    """Returns what an answer is made of: its mode, its passages, and what each one counts.

    Args:
        prepared: what it is said with.
        router: how rows become gates, where the gates of the answer and of each passage are wanted
            too, (S, K) each.
    """
    hits, weights = prepared.hits, prepared.weights
    found: Json = {"mode": prepared.request.mode, "passages": []}
    for at, passage in enumerate(() if hits is None else hits.passages):
        told = {"id": passage.id, "key": passage.key, "title": passage.title, "text": passage.text}
        told["score"] = float(hits.scores[at]) if hits is not None else None
        told["weight"] = None if weights is None else float(weights[at])
        found["passages"].append(told)
    if router is not None:
        found["gates"] = None if prepared.gates is None else prepared.gates.tolist()
        if hits is not None and hits.rows is not None:
            of_each = gates_of_rows(torch.from_numpy(np.asarray(hits.rows)), router)
            for told, gates in zip(found["passages"], of_each, strict=True):
                told["gates"] = gates.tolist()
    return found


def trust_told(answer: Answer) -> Json | None:
    """Returns whether to trust an answer, and why not; None where that wasn't looked at."""
    if answer.trust is None:
        return None
    return {
        "trusted": answer.trusted,
        "confidence": answer.confidence,
        "calibrated": answer.trust.is_calibrated,
        "reason": answer.reason,
    }


def finish_told(choice: Choice) -> str:
    """Returns OpenAI's word for why a continuation ended."""
    return choice.finish if choice.finish in ("stop", "length") else "stop"


def chat_logprobs(
    tokens: PreTrainedTokenizerBase, ids: Sequence[int], noted: Sequence[TokenLogprobs]
) -> Json:
    """Returns log-probabilities as chats have them."""

    def told(token: int, logprob: float) -> Json:
        text = str(tokens.decode([token]))
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    return {
        "content": [
            {**told(token, each.logprob), "top_logprobs": [told(*best) for best in each.top]}
            for token, each in zip(ids, noted, strict=True)
        ],
        "refusal": None,
    }


def completion_logprobs(
    tokens: PreTrainedTokenizerBase,
    ids: Sequence[int],
    noted: Sequence[TokenLogprobs | None],
    *,
    offset: int = 0,
) -> Json:
    """Returns log-probabilities as completions have them; None where a token has none.

    Args:
        tokens: turns ids into text.
        ids: of the tokens.
        noted: of each.
        offset: characters before them.
    """
    texts = [str(tokens.decode([token])) for token in ids]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    best = []
    for each in noted:
        by_text: dict[str, float] = {}
        for token, logprob in each.top if each is not None else ():
            by_text.setdefault(str(tokens.decode([token])), logprob)  # the likeliest of one text
        best.append(by_text or None)
    return {
        "tokens": texts,
        "token_logprobs": [None if each is None else each.logprob for each in noted],
        "top_logprobs": best,
        "text_offset": offsets,
    }


class ToldResponse(JSONResponse):
    """A whole response; numbers that aren't finite are null, as JSON has none."""

    def render(self, content: Any) -> bytes:
        """Returns the body."""
        return shown_json(content, ascii_only=False).encode()


def event(content: Json | str) -> str:
    """Returns a server-sent event."""
    text = content if isinstance(content, str) else shown_json(content, ascii_only=False)
    return f"data: {text}\n\n"
