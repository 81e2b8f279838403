"""Continuous batching: sequences join and leave between any two tokens, each with its own mixture.

A step reads waiting prompts (some at a time, long ones in pieces, so that those who are being
answered don't wait long; those of similar length together, so that little is padding) and then says
one more token of every sequence. Gates are the batch's: a pass over many mixtures costs what a pass
with one costs.

R rows of a batch, C columns, T tokens of a pass, S sites, K experts, V tokens of the vocabulary.
"""

import inspect
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprag.decoding.batch_rows import PromptRows, RunningRows
from polyprag.decoding.continuation import Continuation
from polyprag.decoding.sampling import choose, logprobs_of_tokens
from polyprag.decoding.slots import SlotCache
from polyprag.decoding.waiting import WaitingPrompts
from polyprag.method.batches.padded import pass_overhead
from polyprag.method.batches.prefix import SharedPrefix, read_prefix
from polyprag.method.experts import ExpertPool
from polyprag.method.loss import keeps_logits
from polyprag.method.pass_gates import WideGates
from polyprag.pretrained.generation_config import end_token_ids, pad_token_id

_NO_GATES = WideGates(())


class Decoder:
    """Continues prompts with one model. One thread at a time may use it."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        pool: ExpertPool | None = None,
        prefix_ids: Sequence[int] = (),
        most: int = 32,
        prefill_tokens: int = 2048,
    ) -> None:
        """Makes one that has nothing to do.

        Args:
            model: a causal LM in eval mode that `SlotCache.fits`.
            tokenizer: the model's.
            pool: the experts that were put into the model, where it has some; they are cast to
                its dtype.
            prefix_ids: tokens that are read once for all prompts that begin with them; experts
                leave them alone.
            most: sequences that are continued at a time.
            prefill_tokens: of prompts that are read between two tokens of the others.
        """
        self._model, self._pool = model, pool
        if pool is not None:
            pool.cast_to_base()
        self._end_ids = frozenset(end_token_ids(model, tokenizer))
        self._pad_id = pad_token_id(model, tokenizer)
        self._most, self._prefill_tokens = most, prefill_tokens
        accepted = inspect.signature(type(model).forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._prefix_ids = tuple(prefix_ids)
        self._prefix: SharedPrefix | None = None
        self._waiting = WaitingPrompts()
        self._prompts: deque[PromptRows] = deque()
        self._running = RunningRows(SlotCache(model))

    @property
    def num_waiting(self) -> int:
        """Sequences whose prompt isn't being read yet."""
        return self._waiting.num_continuations

    @property
    def num_running(self) -> int:
        """Sequences that have begun, and not ended."""
        return len(self._running.members) + sum(map(len, self._reading()))

    @property
    def cache_bytes(self) -> int:
        """What the keys and values of running sequences take."""
        return self._running.cache.num_bytes

    def submit(self, continuations: Sequence[Continuation]) -> None:
        """Adds continuations of one prompt with one mixture, which is read once for them all.

        Raises:
            ValueError: there are more than are continued at a time, or gates without experts.
        """
        self.check(continuations)
        self._waiting.put(continuations)

    def check(self, continuations: Sequence[Continuation]) -> None:
        """Refuses what `submit` would refuse; any thread may call it."""
        if not 0 < len(continuations) <= self._most:
            raise ValueError(
                f"{len(continuations)} continuations of a prompt; from 1 to {self._most} can be "
                "said at a time"
            )
        if self._pool is None and any(each.gates is not None for each in continuations):
            raise ValueError("gates need the pool whose experts they mix; pass pool=")

    @torch.inference_mode()
    def step(self) -> bool:
        """Reads some prompts, says a token of each sequence; tells whether anything is left."""
        self._drop_ended()
        if not self._prompts:
            self._admit()
        while self._prompts and self._read(self._prompts[0]):
            self._prompts.popleft()
        if self._running.members:
            self._say()
            self._drop_ended()
        return bool(self._running.members or self._prompts or self._waiting)

    def run(self) -> None:
        """Steps until nothing is left."""
        while self.step():
            pass

    def abandon(self, error: Exception) -> None:
        """Ends everything after a step that failed, so that others can be continued."""
        begun = [*self._running.members, *(each for alike in self._reading() for each in alike)]
        waiting = self._waiting.take_all()
        self._prompts.clear()
        self._running = RunningRows(SlotCache(self._model))
        for each in (*begun, *waiting):
            each.fail(error)

    def _reading(self) -> list[list[Continuation]]:
        return [alike for prompts in self._prompts for alike in prompts.alike]

    def _admit(self) -> None:
        """Takes the prompts that are read next, as far as there is room for them."""
        if self._prefix_ids and self._prefix is None:
            self._prefix = read_prefix(self._model, self._prefix_ids)
        groups = self._waiting.take(
            room=self._most - len(self._running.members),
            most_tokens=self._prefill_tokens,
            overhead=pass_overhead(self._model.device),
            prefix=self._prefix,
        )
        for chosen in groups:
            gates = self._gates_of([each for each, *_ in chosen])
            prefix = self._prefix_of(chosen)
            self._prompts.append(PromptRows(SlotCache(self._model), chosen, gates, prefix))

    def _prefix_of(self, chosen: Sequence[Sequence[Continuation]]) -> SharedPrefix | None:
        """Returns what prompts that are read together go on from."""
        (first, *_), *_ = chosen
        if self._prefix is None or not self._prefix.begins(first.prompt):
            return None
        is_scored = any(each.sampling.prompt_logprobs is not None for each, *_ in chosen)
        if is_scored and self._prefix.logits is None:
            self._prefix = read_prefix(self._model, self._prefix_ids, scored=True)
        return self._prefix

    def _read(self, prompts: PromptRows) -> bool:
        """Reads a piece of the prompts; those that are read join the running ones.

        Returns:
            Whether that was the last piece.
        """
        width, start = prompts.width, prompts.done
        end = min(width, start + max(1, self._prefill_tokens // len(prompts.alike)))
        logits_RTV = self._pass(
            prompts.cache,
            prompts.tokens(self._pad_id)[:, start:end],
            prompts.first,
            prompts.gates,
            keeps_all=prompts.is_scored,
        )
        if prompts.is_scored:
            prompts.score(logits_RTV)
        prompts.done = end
        is_last = end == width
        if is_last:
            self._begin(prompts, logits_RTV[:, -1])
        return is_last

    def _begin(self, prompts: PromptRows, logits_RV: Tensor) -> None:
        """Says the first token after each prompt."""
        rows = [row for row, alike in enumerate(prompts.alike) for _ in alike]
        begun = [each for alike in prompts.alike for each in alike]
        self._take(begun, logits_RV[rows])
        stays = [i for i, each in enumerate(begun) if not each.end_if_cancelled()]
        if stays:
            self._running.members += [begun[i] for i in stays]
            self._running.cache.join(prompts.cache, [rows[i] for i in stays])
            self._running.gates = self._gates_of(self._running.members)

    def _say(self) -> None:
        """Says the next token of each running sequence."""
        running = self._running
        ids_R1 = torch.tensor([each.ids[-1:] for each in running.members])
        width = running.cache.width + 1
        first = torch.tensor([width - each.num_tokens for each in running.members])
        logits_R1V = self._pass(running.cache, ids_R1, first, running.gates)
        self._take(running.members, logits_R1V[:, -1])

    def _take(self, members: Sequence[Continuation], logits_RV: Tensor) -> None:
        samplings = [each.sampling for each in members]
        tokens = choose(logits_RV, samplings, [each.generator for each in members])
        noted = logprobs_of_tokens(logits_RV, tokens, [each.logprobs for each in samplings])
        for each, token, logprobs in zip(members, tokens, noted, strict=True):
            each.take(token, logprobs, end_ids=self._end_ids)

    def _drop_ended(self) -> None:
        """Gives the rows of ended sequences to the last ones."""
        running = self._running
        stays = [i for i, each in enumerate(running.members) if not each.end_if_cancelled()]
        if len(stays) == len(running.members):
            return
        rows = list(range(len(stays)))
        free = sorted(set(rows) - set(stays))
        for row, moved in zip(free, (i for i in stays if i >= len(stays)), strict=True):
            rows[row] = moved
        running.members = [running.members[i] for i in rows]
        width = max((each.num_tokens - 1 for each in running.members), default=0)
        running.cache.keep(rows, width=width)
        running.gates = self._gates_of(running.members)

    def _gates_of(self, members: Sequence[Continuation]) -> WideGates | None:
        """Returns R sequences' gates; zeros, which add nothing, for those that have none."""
        if self._pool is None or all(each.gates is None for each in members):
            return None
        nothing = torch.zeros(self._pool.num_sites, self._pool.num_experts)
        gates = [nothing if each.gates is None else each.gates for each in members]
        return self._pool.widened(torch.stack(gates).to(self._model.device))

    def _pass(
        self,
        cache: SlotCache,
        ids_RT: Tensor,
        first: Tensor,
        gates: WideGates | None,
        *,
        keeps_all: bool = False,
    ) -> Tensor:
        """Returns (R, 1, V) logits after the last of some tokens, which the cache then has.

        Args:
            cache: of the tokens before.
            ids_RT: R rows of T tokens.
            first: (R,) the column of each row's first token; those before are padding.
            gates: of each row.
            keeps_all: whether the logits after each token are wanted: (R, T, V).
        """
        device, more = self._model.device, ids_RT.shape[1]
        columns = torch.arange(cache.width + more)
        inputs: dict[str, Tensor] = {}
        # By a tensor: the last column as a slice isn't contiguous, and torch would multiply each
        # row by the whole vocabulary by itself.
        last = None if keeps_all or more == 1 else torch.tensor([more - 1], device=device)
        if last is not None and keeps_logits(type(self._model).forward):
            inputs["logits_to_keep"] = last
        if int(first.max()):  # else there is no padding, and nothing to mask
            inputs["attention_mask"] = (columns >= first[:, None]).long().to(device)
        if self._takes_positions:
            positions = (columns[-more:] - first[:, None]).clamp(min=0)
            inputs["position_ids"] = positions.to(device)
        gated: AbstractContextManager[None] = nullcontext()
        if self._pool is not None:
            gated = self._pool.gated(gates or _NO_GATES, needed=last)
        with gated:
            logits: Tensor = self._model(
                input_ids=ids_RT.to(device),
                past_key_values=cache,
                use_cache=True,
                **inputs,
            ).logits
        cache.advance(more)
        return logits
