"""Adapters of a run's passages, without its base model's weights, for engines that have them."""

from collections.abc import Sequence
from pathlib import Path

from polyprag.encoding.mixtures import Mixtures
from polyprag.export.card import model_card
from polyprag.export.directory import new_directory, write_adapter
from polyprag.export.lora import Lora, lora_of_mixture
from polyprag.method.base_model import base_skeleton, load_tokenizer
from polyprag.method.experts import inject
from polyprag.method.prompts import PromptTokenizer
from polyprag.pretrained.where import located


class RunAdapters:
    """Writes mixtures of one encoding's passages as LoRAs."""

    def __init__(self, run_dir: str) -> None:
        """Reads the experts; rows are read when passages are asked for.

        Raises:
            RunError: there is no encoding, or it is damaged.
            ConfigError: the base model's config can't be read.
        """
        self._mixtures = Mixtures(run_dir)
        encoding = self._mixtures.encoding
        self._state = encoding.expert_state()
        self._model = encoding.config.model
        trained = encoding.config
        self._pool = inject(base_skeleton(self._model), trained.experts, trained.router, seed=0)
        tokenizer = load_tokenizer(self._model)
        self._prompts = PromptTokenizer(
            tokenizer, trained.generation, skip_prefix=trained.experts.skip_prefix
        )

    @property
    def experts_sha256(self) -> str:
        """Of the experts' file: another one after another training."""
        return self._mixtures.encoding.manifest.experts.sha256

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
        mixture = self._mixtures.of(keys)
        lora = lora_of_mixture(self._pool, mixture.gates, rank=rank, state=self._state)
        base = located(self._model.path)
        card = model_card(
            lora,
            mixture.passages,
            mixture.weights,
            base=base,
            prompts=self._prompts,
            form="peft",
        )
        with new_directory(out, overwrite=True) as made:
            write_adapter(made, lora, base=base, card=card)
        return lora
