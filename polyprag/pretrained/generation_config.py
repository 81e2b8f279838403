"""What of a base model's own generation config counts: the tokens that end a text."""

from collections.abc import Callable

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

new_generation_config: Callable[..., GenerationConfig] = GenerationConfig  # its own has no types


def forget_generation_config(model: PreTrainedModel, *, eos_ids: list[int]) -> None:
    """Empties a model's own generation config but for what ends a text.

    transformers fills up whatever a call leaves out from there: its makers' guidance_scale,
    min_new_tokens or bad_words_ids would change answers, and stop_strings or num_return_sequences
    end in errors.
    """
    model.generation_config = new_generation_config(eos_token_id=eos_ids)


def end_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Returns the ids that end a text: the model's (chat models have several), the tokenizer's."""
    own = getattr(model.generation_config, "eos_token_id", None)
    ids = {*own} if isinstance(own, list | tuple) else {own}
    return sorted({int(i) for i in (*ids, tokenizer.eos_token_id) if i is not None})


def pad_token_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns the token that fills a batch up."""
    pad_id = tokenizer.pad_token_id
    return int(pad_id) if pad_id is not None else end_token_ids(model, tokenizer)[0]
