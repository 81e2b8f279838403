"""Models that attend both ways aren't taken for language models that go from left to right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedTokenizerBase,
    RoFormerConfig,
    RoFormerForCausalLM,
    XLNetConfig,
    XLNetLMHeadModel,
)

from polyprag.config import Config, DataConfig, ExpertsConfig, ModelConfig
from polyprag.errors import ConfigError
from polyprag.method.base_look import look_at_base
from polyprag.method.base_model import base_skeleton, load_base

SMALL: dict[str, Any] = {"vocab_size": 258, "hidden_size": 16, "num_hidden_layers": 1}
GPT2 = GPT2Config(vocab_size=258, n_positions=64, n_embd=16, n_layer=1, n_head=2)
XLNET = XLNetConfig(vocab_size=258, d_model=16, n_layer=1, n_head=2, d_inner=24)
SMALL |= {"num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64}


@pytest.fixture
def saved(
    tmp_path: Path, make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase]
) -> Callable[..., str]:
    def save(kind: Any, config: Any) -> str:
        kind(config).save_pretrained(tmp_path / "base")
        make_byte_tokenizer().save_pretrained(tmp_path / "base")
        return str(tmp_path / "base")

    return save


def sees_what_follows(path: str) -> bool:
    """Whether the first token's logits change with the last token, by running the model."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(path).eval()
    with torch.inference_mode():
        one, two = (model(torch.tensor([[5, 6, 7, last]])).logits[0, 0] for last in (8, 9))
    return not torch.allclose(one, two, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (BertLMHeadModel, BertConfig(**SMALL)),
        (RoFormerForCausalLM, RoFormerConfig(**SMALL)),
        (
            XLNetLMHeadModel,
            XLNetConfig(vocab_size=258, d_model=16, n_layer=1, n_head=2, d_inner=24),
        ),
    ],
)
def test_encoders_are_refused(saved: Callable[..., str], kind: Any, config: Any) -> None:
    path = saved(kind, config)
    assert sees_what_follows(path)
    for refuse in (base_skeleton, load_base):
        with pytest.raises(ConfigError, match=r"model\.path=.*attends both ways"):
            refuse(ModelConfig(path=path))


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (BertLMHeadModel, BertConfig(**SMALL, is_decoder=True)),
        (GPTNeoXForCausalLM, GPTNeoXConfig(**SMALL)),
        (
            GPT2LMHeadModel,
            GPT2Config(vocab_size=258, n_positions=64, n_embd=16, n_layer=1, n_head=2),
        ),
    ],
)
def test_what_goes_from_left_to_right_is_taken(
    saved: Callable[..., str], kind: Any, config: Any
) -> None:
    path = saved(kind, config)
    assert not sees_what_follows(path)
    load_base(ModelConfig(path=path), device="cpu")


def test_an_encoder_with_a_decoder_is_refused(saved: Callable[..., str]) -> None:
    config = BartConfig(
        vocab_size=258, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=24
    )
    path = saved(BartForConditionalGeneration, config)
    with pytest.raises(ConfigError, match="encoder with a decoder"):
        base_skeleton(ModelConfig(path=path))


def test_learned_positions_bound_the_examples(saved: Callable[..., str]) -> None:
    path = saved(GPT2LMHeadModel, GPT2)
    settings = Config(model=ModelConfig(path=path), data=DataConfig(max_length=65))
    with pytest.raises(ConfigError, match=r"data\.max_length=65 .*has 64 positions"):
        look_at_base(settings, say=print)
    fits = Config(model=ModelConfig(path=path), data=DataConfig(max_length=64))
    with pytest.raises(ConfigError, match=r"experts\.targets"):  # the next thing that is wrong
        look_at_base(fits, say=print)
    assert ExpertsConfig().targets == fits.experts.targets
