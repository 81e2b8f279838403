"""Questions to answers: retrieve, mix the retrieved passages' routing rows, generate.

N passages, Q questions, k retrieved passages, S sites, K experts.
"""

import time
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprag.answering.answer import Answer, Latency
from polyprag.answering.generation import decode_greedily
from polyprag.answering.mixing import NO_INDEX, mixture_of
from polyprag.answering.modes import MIXES, MODES, READS, SEARCHES, WITHOUT_MAP, Mode
from polyprag.answering.parts import LoadedModel, load_parts
from polyprag.answering.said import Said
from polyprag.answering.trust.judging import Judge
from polyprag.answering.trust.likelihood import logprobs_of
from polyprag.config import Config, GenerationConfig, RouterConfig
from polyprag.errors import ConfigError, RunError
from polyprag.method.experts import ExpertPool
from polyprag.method.prompts import Message, PromptTokenizer, TitledText
from polyprag.method.window import fit_prompt, prompt_tokens
from polyprag.pretrained.generation_config import pad_token_id
from polyprag.retrieval.results import Hits
from polyprag.retrieval.search import Index
from polyprag.routed.gates import RoutedGates


class Answerer:
    """A loaded run: base model, expert pool and index, ready for questions in any mode."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: Config,
        *,
        index: Index | None = None,
        pool: ExpertPool | None = None,
        router: RouterConfig | None = None,
        routed: RoutedGates | None = None,
        prompts: GenerationConfig | None = None,
        skips_prefix: bool = False,
        judge: Judge | None = None,
    ) -> None:
        """Puts loaded parts together; `open` loads them from a run directory.

        Args:
            model: the base model, in eval mode, with `pool` injected where there is one.
            tokenizer: the model's.
            config: its `retrieval` and `generation` are used, and `train.seed` for the controls.
            index: needed by the modes that search.
            pool: needed by the modes that mix experts.
            router: how rows become gates, as the pool was trained; default `config.router`.
            routed: needed by `routed`.
            prompts: how prompts are laid out, as the pool was trained; default `config.generation`.
            skips_prefix: whether experts leave alone what all prompts begin with, as the pool was
                trained.
            judge: of the answers; default the rule without a calibration.
        """
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self.base = LoadedModel(model, tokenizer, pool)
        self.index, self.pool = index, pool
        self.router, self._routed_gates = router or config.router, routed
        self.prompts = PromptTokenizer(
            tokenizer, prompts or config.generation, skip_prefix=skips_prefix
        )
        self.judge = judge or Judge(config)

    @classmethod
    def open(
        cls,
        run_dir: str | Path,
        config: Config,
        *,
        modes: Collection[Mode] = WITHOUT_MAP,
        earlier: LoadedModel | None = None,
    ) -> "Answerer":
        """Loads what the modes need from a run directory.

        The experts, the router, and what a chat template is told are those that the encoding was
        trained with, whatever `config` says of them.

        Args:
            run_dir: RUN; its index is needed unless the mode is `closed`, its encoding for the
                modes that mix experts, its routing map for `routed`.
            config: `model`, `retrieval` and `generation` are used.
            modes: what will be asked for.
            earlier: `base` of an answerer that was opened before by this config, which is used
                again where its experts still are the run's.

        Raises:
            RunError: the index, the encoding or the map is missing, or they don't belong together.
            ConfigError: the base model can't be loaded.
        """
        parts = load_parts(run_dir, config, modes=modes, earlier=earlier)
        made = cls(parts.base.model, parts.base.tokenizer, config, **parts.others)
        made.base = parts.base
        return made

    def retrieve(self, questions: Sequence[str], *, k: int | None = None) -> list[Hits]:
        """Returns each question's passages, best first, with their scores and routing rows.

        Args:
            questions: the queries.
            k: passages a question; default `retrieval.top_k`.
        """
        k = self.config.retrieval.top_k if k is None else k
        if k < 1:
            raise ConfigError(f"--top-k {k}: must be at least 1")
        return list(self.indexed().search(questions, k=k, method=self.config.retrieval.method))

    def open_index(self) -> None:
        """Opens all of the index, where there is one, that the first search would open."""
        if self.index is not None:
            self.retrieve(["anything"])

    def answer(
        self,
        questions: Sequence[str],
        *,
        mode: Mode,
        k: int | None = None,
        hits: Sequence[Hits] | None = None,
        never_rows_of: Sequence[Collection[int]] | None = None,
        all_evidence: bool = False,
    ) -> list[Answer]:
        """Answers questions in one mode; they are batched by `generation.batch_size`.

        Args:
            questions: Q questions.
            mode: see `polyprag.answering.modes`.
            k: passages a question; default `retrieval.top_k`.
            hits: the passages to use in place of retrieval, one entry a question.
            never_rows_of: further passages whose rows `poly-wrong-row` may not use, one entry a
                question; the question's own hits are never used.
            all_evidence: whether to look also at evidence that the mode's rule doesn't weigh.

        Returns:
            Q answers in the order of the questions.

        Raises:
            RunError: the mode needs an index, routing rows or a routing map and they aren't there,
                or `poly-wrong-row` has no other passage to take a row from.
            QuestionTooLongError: a question doesn't fit the model's window.
        """
        if mode not in MODES:
            raise ConfigError(f"mode {mode!r} isn't known: use one of {', '.join(MODES)}")
        if not questions:
            return []
        started = time.perf_counter()
        found: list[Hits] | None = None
        if mode in SEARCHES:
            found = list(hits) if hits is not None else self.retrieve(questions, k=k)
        retrieved = time.perf_counter()
        mixtures = None
        if mode == "routed":
            mixtures = self.routed(questions)
        elif mode in MIXES and found is not None:
            barred = never_rows_of if never_rows_of is not None else [()] * len(questions)
            mix = partial(
                mixture_of,
                mode=mode,
                pool=self.experts(mode),
                index=self.index,
                router=self.router,
                config=self.config,
            )
            of_each = zip(questions, found, barred, strict=True)
            mixtures = torch.stack([mix(text, hit, never=never) for text, hit, never in of_each])
        mixed = time.perf_counter()
        shown = (
            [hit.passages for hit in found] if found and mode in READS else [()] * len(questions)
        )
        said = decode_greedily(
            self.model,
            self.tokenizer,
            [self.prompt_ids(text, each) for text, each in zip(questions, shown, strict=True)],
            config=self.config.generation,
            pool=self.pool,
            gates=mixtures,
            prefix_ids=self.prompts.skipped_ids,
            chat=self.prompts.chat,
            scored=self.config.answering.abstain != "never",
        )
        judged = self.judge.judged(
            questions,
            said,
            mode=mode,
            hits=found,
            index=self.index,
            alone=partial(self.alone, questions, said),
            top_k=k,
            all_evidence=all_evidence,
        )
        per_question = 1000.0 / len(questions)
        latency = Latency(
            retrieve_ms=(retrieved - started) * per_question,
            mix_ms=(mixed - retrieved) * per_question,
            generate_ms=(time.perf_counter() - mixed) * per_question,
        )
        return [
            Answer(
                text=each.text,
                mode=mode,
                hits=None if found is None else found[i],
                gates=None if mixtures is None else mixtures[i].numpy(),
                latency=latency,
                thinking=each.thinking,
                evidence=None if judged is None else judged[i][0],
                trust=None if judged is None else judged[i][1],
            )
            for i, each in enumerate(said)
        ]

    def prompt_ids(
        self,
        question: str,
        passages: Sequence[TitledText] = (),
        *,
        history: Sequence[Message] = (),
        max_new_tokens: int | None = None,
    ) -> list[int]:
        """Returns a prompt's token ids, with as much of the passages as leaves room for the answer.

        Args:
            question: kept whole.
            passages: best first.
            history: what was said before.
            max_new_tokens: of the answer; None: `generation.max_new_tokens`.

        Raises:
            QuestionTooLongError: the question doesn't fit the model's window.
        """
        room = max_new_tokens or self.config.generation.max_new_tokens
        most = prompt_tokens(self.model.config, room)
        return fit_prompt(
            self.prompts, question, passages=passages, history=history, max_tokens=most
        )

    def alone(self, questions: Sequence[str], said: Sequence[Said]) -> list[tuple[float, ...]]:
        """Returns the answers' log-probabilities for the base model alone, token by token."""
        return logprobs_of(
            self.model,
            [self.prompt_ids(question) for question in questions],
            [each.ids for each in said],
            pad_id=pad_token_id(self.model, self.tokenizer),
        )

    @property
    def has_map(self) -> bool:
        """Whether the routing map of `routed` was loaded."""
        return self._routed_gates is not None

    def indexed(self) -> Index:
        """Returns the index.

        Raises:
            RunError: the run was opened without it.
        """
        if self.index is None:
            raise RunError(NO_INDEX)
        return self.index

    def experts(self, mode: Mode) -> ExpertPool:
        """Returns the experts.

        Raises:
            RunError: the run was opened without them.
        """
        if self.pool is None:
            raise RunError(f"{mode} needs the experts: run `polyprag encode RUN` first")
        return self.pool

    def routed(self, questions: Sequence[str]) -> torch.Tensor:
        """Returns the questions' (Q, S, K) float32 gates by the routing map."""
        if self._routed_gates is None:
            raise RunError("routed needs the run's routing map: run `polyprag distill RUN` first")
        self.experts("routed")
        return torch.from_numpy(self._routed_gates.of(questions))
