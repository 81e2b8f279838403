"""Whether a language model reads from left to right only, as all that is trained here must.

A BERT loads as a causal LM, too, and attends both ways unless its config says that it is a decoder:
each token would see the answer that it is to learn.
"""

from typing import Any

from polyprag.pretrained.unusable import UnusableModelError

# Kinds that attend both ways unless `is_decoder` is set, and have no attribute that tells.
_ENCODERS = ("big_bird", "bert-generation", "megatron-bert", "rembert", "roformer")
# And those that do whatever is set.
_ALWAYS = ("xlm", "xlnet", "prophetnet", "cpmant")
_NOT_OF_THE_TEXT = ("cross", "encoder_attn", "vision", "visual", "audio", "image")


def refuse_encoder_decoder(config: Any) -> None:
    """Refuses a model that is an encoder with a decoder.

    Args:
        config: as config.json has it; making the model turns it into that of its decoder.

    Raises:
        UnusableModelError: says what it is.
    """
    if config.is_encoder_decoder:
        raise UnusableModelError(
            f"it is an encoder with a decoder ({config.model_type}); take a causal (decoder-only) "
            "language model"
        )


def check_causal(model: Any) -> None:
    """Refuses a model whose tokens see those that follow.

    Args:
        model: loaded, or without weights.

    Raises:
        UnusableModelError: says what it is.
    """
    text = model.config.get_text_config()
    is_encoder = text.model_type in _ENCODERS and not getattr(text, "is_decoder", False)
    if is_encoder or text.model_type in _ALWAYS or _attends_both_ways(model):
        raise UnusableModelError(
            f"it attends both ways ({type(model).__name__}), so that each token would see the "
            "answer that it is to learn; take a causal (decoder-only) language model"
        )


def _attends_both_ways(model: Any) -> bool:
    """Whether a layer of the text's self-attention says that it isn't causal."""
    found = [
        bool(module.is_causal)
        for name, module in model.named_modules()
        if isinstance(getattr(module, "is_causal", None), bool)
        and not any(word in name for word in _NOT_OF_THE_TEXT)
    ]
    return bool(found) and not all(found)
