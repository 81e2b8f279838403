"""Which base model an encoding or a checkpoint belongs to, and whether another is the same."""

from typing import TYPE_CHECKING

from polyprag.config import ModelConfig
from polyprag.errors import RunError
from polyprag.pretrained import LOAD_ERRORS
from polyprag.pretrained.unusable import in_one_line
from sharding.storage.files import sha256_of
from sharding.storage.versioned import Sha256, Stored

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


BaseSetting = str | bool | int | float | list[str | bool | int | float]


class BaseModel(Stored, frozen=True):
    """A base model: what tells it from others, and where it was.

    Attributes:
        path: `model.path`.
        num_layers: decoder layers.
        hidden_size: width of the model.
        sha256: of its config.json, which is all that earlier versions knew of it.
        weights: stands for its weights; None where it isn't known.
        tokenizer: stands for how its tokenizer makes ids; None where it isn't known.
        chat_template: SHA-256 of the tokenizer's; None where it has none, or it isn't known.
        settings: those of config.json that decide what the weights compute.
    """

    path: str
    num_layers: int
    hidden_size: int
    sha256: Sha256
    weights: Sha256 | None
    tokenizer: Sha256 | None
    chat_template: Sha256 | None
    settings: dict[str, BaseSetting]

    def difference(self, other: "BaseModel", *, chat: bool) -> str | None:
        """Returns in which way another base model isn't this one; None if it is the same.

        What either doesn't know of itself can't be compared. If that is the weights, config.json
        is, whose bytes also differ where another version of transformers saved the same model.

        Args:
            other: another, or the same.
            chat: whether prompts are laid out by the chat template.
        """
        for name in ("num_layers", "hidden_size"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} {theirs} in place of {mine}"
        if self.weights is None or other.weights is None:
            if self._is_known and other._is_known:
                return self._other_tokenizer(other, chat=chat) or self._other_setting(other)
            if self.sha256 == other.sha256:
                return None
            return (
                "another config.json, which is all that was kept of the model (SHA-256 "
                f"{other.sha256[:12]} in place of {self.sha256[:12]})"
            )
        if self.weights != other.weights:
            return "other weights"
        return self._other_tokenizer(other, chat=chat) or self._other_setting(other)

    @property
    def _is_known(self) -> bool:
        """Whether it says more of itself than earlier versions did."""
        return self.tokenizer is not None

    def _other_tokenizer(self, other: "BaseModel", *, chat: bool) -> str | None:
        if self.tokenizer != other.tokenizer:
            return "another tokenizer"
        if chat and self.chat_template != other.chat_template:
            return "another chat template"
        return None

    def _other_setting(self, other: "BaseModel") -> str | None:
        for key in sorted(self.settings.keys() & other.settings.keys()):
            mine, theirs = self.settings[key], other.settings[key]
            if mine != theirs:
                return f"{key} {theirs!r} in place of {mine!r} in config.json"
        return None


def remedy_for(trained_with: BaseModel, other: BaseModel) -> str:
    """Returns what to do where another base model was given."""
    if trained_with.path == other.path:
        return f"bring back the files that {trained_with.path} had"
    return f"set model.path={trained_with.path}"


def describe_base(config: ModelConfig, tokenizer: "PreTrainedTokenizerBase") -> BaseModel:
    """Returns what tells a base model from others; its weights aren't loaded for it.

    Args:
        config: where it is.
        tokenizer: `load_tokenizer(config)`.

    Raises:
        RunError: its files can't be read.
    """
    # Seconds, which reading a manifest needn't take.
    from polyprag.pretrained import read_config
    from polyprag.pretrained.identity import (
        config_file,
        deciding_settings,
        template_digest,
        tokenizer_digest,
        weights_digest,
    )

    try:
        settings = read_config(config.path, revision=config.revision)
        text = settings.get_text_config()
        return BaseModel(
            path=config.path,
            num_layers=int(text.num_hidden_layers),
            hidden_size=int(text.hidden_size),
            sha256=sha256_of(config_file(config.path, revision=config.revision)),
            weights=weights_digest(config.path, revision=config.revision),
            tokenizer=tokenizer_digest(tokenizer),
            chat_template=template_digest(tokenizer),
            settings=deciding_settings(settings),
        )
    except LOAD_ERRORS as error:
        raise RunError(f"model.path={config.path!r}: {in_one_line(error)}") from error
