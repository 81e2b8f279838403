"""The ways to answer that are compared; each takes requests and says when their tokens came."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils.hotswap import hotswap_adapter
from transformers import ContinuousBatchingConfig, GenerationConfig, LlamaForCausalLM

from answering.models import PASSAGES, Asked, adapted, plain_model, tokenizer
from polyprag.decoding.continuation import Continuation
from polyprag.decoding.decoder import Decoder
from polyprag.decoding.sampling import Sampling
from polyprag.decoding.text_stream import TextStream
from polyprag.method.experts import ExpertPool


@dataclass
class Times:
    """Seconds from the start: each request's first token and its end, and the end of all."""

    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    total: float = 0.0


_BLOCKS, _BATCH_TOKENS, _MOST_REQUESTS = 256, 2048, 64
Method = Callable[[Sequence[Asked]], Times]


def engine(
    model: LlamaForCausalLM, pool: ExpertPool, *, routed: bool, in_context: bool = False
) -> Method:
    """Ours: continuous batches, with each request's mixture or none."""
    words = tokenizer()
    decoder = Decoder(model, words, pool=pool, most=64)

    def answer(asked: Sequence[Asked]) -> Times:
        times = Times([0.0] * len(asked), [0.0] * len(asked))
        started = time.perf_counter()
        left = {}
        for at, each in enumerate(asked):
            prompt = [*each.passages, *each.prompt] if in_context else each.prompt
            left[at] = Continuation(
                prompt,
                sampling=Sampling(max_new_tokens=each.new_tokens, ends=False),
                text=TextStream(words),
                gates=each.gates if routed else None,
            )
            decoder.submit([left[at]])
        while left:
            decoder.step()
            now = time.perf_counter() - started
            for at, continuation in list(left.items()):
                times.first[at] = times.first[at] or (now if continuation.ids else 0.0)
                if continuation.finish is not None:
                    times.last[at] = now
                    del left[at]
        times.total = time.perf_counter() - started
        return times

    return answer


def one_generate(model: LlamaForCausalLM) -> Method:
    """transformers' `generate`, a batch padded on the left, as long as its longest answer."""

    def answer(asked: Sequence[Asked]) -> Times:
        started = time.perf_counter()
        _generate(model, [each.prompt for each in asked], max(each.new_tokens for each in asked))
        return _all_at(time.perf_counter() - started, len(asked))

    return answer


def continuous_generate(shape: str) -> Method:
    """transformers' continuous batching, which knows no adapters; its manager is kept."""
    model = plain_model(shape)
    # It would take most of the machine's memory for its cache, and its time to do so.
    room = ContinuousBatchingConfig(
        num_blocks=_BLOCKS,
        max_batch_tokens=_BATCH_TOKENS,
        max_requests_per_batch=_MOST_REQUESTS,
        max_memory_percent=0.95,  # of what it counts as free, which may be a part of the machine
    )
    config = GenerationConfig(max_new_tokens=64, do_sample=False, eos_token_id=-1)

    def answer(asked: Sequence[Asked]) -> Times:
        times, started = Times(), time.perf_counter()
        with (
            torch.inference_mode(),
            model.continuous_batching_context_manager(
                generation_config=config,
                continuous_batching_config=room,
                persistent_manager=True,
                warmup=False,
            ) as manager,
        ):
            started = time.perf_counter()
            for each in asked:
                manager.add_request(each.prompt, max_new_tokens=each.new_tokens)
            for _ in asked:
                while manager.get_result(timeout=1.0) is None:
                    if not manager.is_running():
                        raise RuntimeError("transformers' continuous batching has ended; see above")
                times.last.append(time.perf_counter() - started)
        times.first, times.total = list(times.last), times.last[-1]
        return times

    return answer


def prag_by_the_book(shape: str, paths: Sequence[Path]) -> Method:
    """For each question: load its passages' adapters, concatenate them, answer, delete them."""
    model = adapted(shape, list(paths[:1]))
    names = [f"own-{i}" for i in range(PASSAGES)]

    def answer_one(at: int, each: Asked) -> None:
        for i, name in enumerate(names):
            path = paths[(at * PASSAGES + i) % len(paths)]
            model.load_adapter(str(path), adapter_name=name)
        model.add_weighted_adapter(names, [1.0] * PASSAGES, "all", combination_type="cat")
        model.set_adapter("all")
        _generate(model, [each.prompt], each.new_tokens)
        for name in ("all", *names):
            model.delete_adapter(name)

    return _one_after_another(answer_one)


def hot_swapped(shape: str, paths: Sequence[Path]) -> Method:
    """peft's hot-swapping: the numbers of one adapter are replaced for each question."""
    model = adapted(shape, list(paths[:1]))
    name = paths[0].name

    def answer_one(at: int, each: Asked) -> None:
        hotswap_adapter(model, str(paths[at % len(paths)]), adapter_name=name)
        _generate(model, [each.prompt], each.new_tokens)

    return _one_after_another(answer_one)


def mixed_adapters(shape: str, paths: Sequence[Path]) -> Method:
    """peft's mixed batches: an adapter a request, all of which are in memory."""
    model = adapted(shape, list(paths))

    def answer(asked: Sequence[Asked]) -> Times:
        started = time.perf_counter()
        _generate(
            model,
            [each.prompt for each in asked],
            max(each.new_tokens for each in asked),
            adapter_names=[paths[at % len(paths)].name for at in range(len(asked))],
        )
        return _all_at(time.perf_counter() - started, len(asked))

    return answer


def _one_after_another(answer_one: Callable[[int, Asked], None]) -> Method:
    """Answers one request after the other; a request's tokens all come at its end."""

    def answer(asked: Sequence[Asked]) -> Times:
        times, started = Times(), time.perf_counter()
        for at, each in enumerate(asked):
            answer_one(at, each)
            times.last.append(time.perf_counter() - started)
        times.first, times.total = list(times.last), times.last[-1]
        return times

    return answer


def _generate(
    model: LlamaForCausalLM | PeftModel, prompts: Sequence[list[int]], most: int, **more: Any
) -> None:
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    with torch.inference_mode():
        model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=most, do_sample=False, **more
        )


def _all_at(seconds: float, number: int) -> Times:
    return Times([seconds] * number, [seconds] * number, seconds)
