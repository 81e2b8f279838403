"""Questions to answers: retrieve, mix the retrieved passages' routing rows, generate.

N passages, Q questions, k retrieved passages, S sites, K experts.
"""

import time
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprag.answering.abstention import load_if_there
from polyprag.answering.answer import Answer, Latency
from polyprag.answering.generation import decode_greedily
from polyprag.answering.judging import Judge, evidence_of
from polyprag.answering.likelihood import logprobs_of
from polyprag.answering.mixing import NO_INDEX, mixture_of
from polyprag.answering.modes import MIXES, MODES, READS, SEARCHES, WITHOUT_MAP, Mode
from polyprag.answering.said import Said
from polyprag.config import Config, GenerationConfig, RouterConfig
from polyprag.encoding.base import describe_base
from polyprag.encoding.reader import Encoding
from polyprag.errors import ConfigError, RunError
from polyprag.method.base_model import load_base
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.prompts import PromptTokenizer, TitledText
from polyprag.method.support.check import check_experts
from polyprag.method.window import fit_prompt, prompt_tokens
from polyprag.pretrained.generation_config import pad_token_id
from polyprag.retrieval.results import Hits
from polyprag.retrieval.search import Index
from polyprag.routed.gates import RoutedGates
from sharding.corpus.passages import Passage

NOT_IN_CORPUS = -1  # the id of a passage that came with a question and isn't in the index


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
            judge: of the answers; default the rule without a calibration.
        """
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self.index, self.pool = index, pool
        self._router, self._routed_gates = router or config.router, routed
        self._prompts = PromptTokenizer(tokenizer, prompts or config.generation)
        self.judge = judge or Judge(config)
        self._max_prompt_tokens = prompt_tokens(model.config, config.generation.max_new_tokens)

    @classmethod
    def open(
        cls, run_dir: str | Path, config: Config, *, modes: Collection[Mode] = WITHOUT_MAP
    ) -> "Answerer":
        """Loads what the modes need from a run directory.

        The experts, the router, and what a chat template is told are those that the encoding was
        trained with, whatever `config` says of them.

        Args:
            run_dir: RUN; its index is needed unless the mode is `closed`, its encoding for the
                modes that mix experts, its routing map for `routed`.
            config: `model`, `retrieval` and `generation` are used.
            modes: what will be asked for.

        Raises:
            RunError: the index, the encoding or the map is missing, or they don't belong together.
            ConfigError: the base model can't be loaded.
        """
        index = None
        if not set(modes).isdisjoint(SEARCHES):
            index = Index.open(
                run_dir,
                gpu=config.index.gpu,
                cache_dir=config.data.cache_dir,
                cache_gb=config.data.cache_gb,
                retrieval=config.retrieval,
            )
        calibration = load_if_there(run_dir) if config.answering.abstain != "never" else None
        if MIXES.isdisjoint(modes):
            model, tokenizer = load_base(config.model)
            judge = Judge(config, calibration=calibration)
            return cls(model, tokenizer, config, index=index, judge=judge)
        encoding = Encoding.load(run_dir)
        routed = None
        if "routed" in modes:
            routed = RoutedGates.open(run_dir, config, encoding=encoding.manifest)
        model, tokenizer = load_base(config.model)
        encoding.check_base_model(describe_base(config.model, tokenizer))
        pool = inject(
            model, encoding.config.experts, encoding.config.router, seed=encoding.config.train.seed
        )
        check_experts(model, pool)
        pool.load_state_dict(encoding.expert_state())
        return cls(
            model,
            tokenizer,
            config,
            index=index,
            pool=pool,
            router=encoding.config.router,
            routed=routed,
            prompts=config.generation.told_as(encoding.config.generation),
            judge=Judge(
                config,
                calibration=calibration,
                experts_sha256=encoding.manifest.experts.sha256,
            ),
        )

    def retrieve(self, questions: Sequence[str], *, k: int | None = None) -> list[Hits]:
        """Returns each question's passages, best first, with their scores and routing rows.

        Args:
            questions: the queries.
            k: passages a question; default `retrieval.top_k`.
        """
        k = self.config.retrieval.top_k if k is None else k
        if k < 1:
            raise ConfigError(f"--top-k {k}: must be at least 1")
        return list(self._indexed().search(questions, k=k, method=self.config.retrieval.method))

    def hits_of(self, passages: Sequence[TitledText]) -> Hits:
        """Returns given passages as hits of equal score, found in the index by title and text.

        Args:
            passages: such as a question's supporting passages.

        Returns:
            The passages in their order. Those not in the corpus have the id `NOT_IN_CORPUS`; the
            rows are None unless all are in it.
        """
        found = [self._indexed().find(passage.title, passage.text) for passage in passages]
        ids = np.asarray([NOT_IN_CORPUS if i is None else i for i in found], dtype=np.int64)
        return Hits(
            ids=ids,
            scores=np.ones(len(ids), dtype=np.float32),
            rows=self._indexed().rows_of(ids) if NOT_IN_CORPUS not in ids else None,
            passages=tuple(
                Passage(id=int(i), key="", title=passage.title, text=passage.text)
                if i == NOT_IN_CORPUS
                else self._indexed().passage(int(i))
                for i, passage in zip(ids, passages, strict=True)
            ),
        )

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
            mixtures = self._routed(questions)
        elif mode in MIXES and found is not None:
            barred = never_rows_of if never_rows_of is not None else [()] * len(questions)
            mix = partial(
                mixture_of,
                mode=mode,
                pool=self._experts(mode),
                index=self.index,
                router=self._router,
                config=self.config,
            )
            of_each = zip(questions, found, barred, strict=True)
            mixtures = torch.stack([mix(text, hit, never=never) for text, hit, never in of_each])
        mixed = time.perf_counter()
        shown = (
            [hit.passages for hit in found] if found and mode in READS else [()] * len(questions)
        )
        judges = self.config.answering.abstain != "never"
        said = decode_greedily(
            self.model,
            self.tokenizer,
            [self._prompt(text, passages) for text, passages in zip(questions, shown, strict=True)],
            config=self.config.generation,
            pool=self.pool,
            gates=mixtures,
            chat=self._prompts.chat,
            scored=judges,
        )
        evidence, rule = None, self.judge.rule(mode, top_k=k)
        if judges:
            weighs_alone = all_evidence or "alone_logprob" in (rule.weights or ())
            evidence = evidence_of(
                questions,
                said,
                alone=self._alone(questions, said) if weighs_alone and mode != "closed" else None,
                hits=found,
                index=self.index,
                by_words=self.config.retrieval.method != "dense",
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
                evidence=None if evidence is None else evidence[i],
                trust=None if evidence is None else rule.judge(evidence[i]),
            )
            for i, each in enumerate(said)
        ]

    def _prompt(self, question: str, passages: Sequence[TitledText] = ()) -> list[int]:
        return fit_prompt(
            self._prompts, question, passages=passages, max_tokens=self._max_prompt_tokens
        )

    def _alone(self, questions: Sequence[str], said: Sequence[Said]) -> list[tuple[float, ...]]:
        """Returns the answers' log-probabilities for the base model alone, token by token."""
        return logprobs_of(
            self.model,
            [self._prompt(question) for question in questions],
            [each.ids for each in said],
            pad_id=pad_token_id(self.model, self.tokenizer),
        )

    def _indexed(self) -> Index:
        if self.index is None:
            raise RunError(NO_INDEX)
        return self.index

    def _experts(self, mode: Mode) -> ExpertPool:
        if self.pool is None:
            raise RunError(f"{mode} needs the experts: run `polyprag encode RUN` first")
        return self.pool

    def _routed(self, questions: Sequence[str]) -> torch.Tensor:
        """Returns the questions' (Q, S, K) float32 gates by the routing map."""
        if self._routed_gates is None:
            raise RunError("routed needs the run's routing map: run `polyprag distill RUN` first")
        self._experts("routed")
        return torch.from_numpy(self._routed_gates.of(questions))
