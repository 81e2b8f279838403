"""Adapters of a run's passages, without its base model's weights, for engines that have them."""

from collections.abc import Sequence
from pathlib import Path

import torch

from polyprag.encoding.reader import Encoding
from polyprag.export.card import model_card
from polyprag.export.directory import new_directory, write_adapter
from polyprag.export.lora import Lora, lora_of_mixture
from polyprag.method.base_model import base_skeleton, load_tokenizer
from polyprag.method.experts import inject
from polyprag.method.mixture import mix_gates
from polyprag.method.mixture import weights as weights_of
from polyprag.method.prompts import PromptTokenizer
from polyprag.method.router import gates as gates_of_rows
from polyprag.pretrained.where import located
from sharding.change.keys import ids_of_keys
from sharding.corpus.reader import Corpus
from sharding.storage.files import join


class RunAdapters:
    """Writes mixtures of one encoding's passages as LoRAs."""

    def __init__(self, run_dir: str) -> None:
        """Reads the experts; rows are read when passages are asked for.

        Raises:
            RunError: there is no encoding, or it is damaged.
            ConfigError: the base model's config can't be read.
        """
        self._run_dir = run_dir
        encoding = self._encoding = Encoding.load(run_dir)
        self._state = encoding.expert_state()
        self._corpus = Corpus.open(join(run_dir, "corpus"))
        self._model = encoding.config.model
        trained = encoding.config
        self._pool = inject(base_skeleton(self._model), trained.experts, trained.router, seed=0)
        tokenizer = load_tokenizer(self._model)
        self._prompts = PromptTokenizer(tokenizer, encoding.config.generation)

    @property
    def experts_sha256(self) -> str:
        """Of the experts' file: another one after another training."""
        return self._encoding.manifest.experts.sha256

    def write(self, keys: Sequence[str], out: Path, *, rank: int | None = None) -> Lora:
        """Writes passages' mixture, all alike, as a PEFT LoRA with its card; replaces `out`.

        Args:
            keys: of the passages.
            out: the adapter's directory.
            rank: see `lora_of_mixture`.

        Raises:
            CorpusError: no passage has a key.
            ConfigError: `out` can't be written.
        """
        ids = ids_of_keys(self._corpus, keys)
        trained = self._encoding.config
        gates = gates_of_rows(torch.from_numpy(self._encoding.rows(ids)), trained.router)
        weights = weights_of(torch.ones(len(ids)), trained.retrieval)
        mixture = mix_gates(gates, weights)
        lora = lora_of_mixture(self._pool, mixture, rank=rank, state=self._state)
        base = located(self._model.path)
        card = model_card(
            lora,
            [self._corpus.record(passage_id).passage for passage_id in ids],
            weights.tolist(),
            base=base,
            prompts=self._prompts,
            is_merged=False,
        )
        with new_directory(out, overwrite=True) as made:
            write_adapter(made, lora, base=base, card=card)
        return lora
