"""Random models of two shapes, and what is asked of them."""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from harness.examples import ROOT
from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.method.experts import ExpertPool, inject

TINY = ROOT / "examples" / "tiny-base"
EXPERTS, RANK = 32, 2
TARGETS = ("gate_proj", "up_proj", "down_proj")
PASSAGES = 3  # of a question
PASSAGE_TOKENS = 120


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        prompt: token ids of a question.
        passages: token ids of three passages before it.
        gates: (S, K) of its mixture.
        new_tokens: that are said.
    """

    prompt: list[int]
    passages: list[int]
    gates: torch.Tensor
    new_tokens: int


def config_of(shape: str) -> LlamaConfig:
    """Returns a model's sizes: the example's, or those of SmolLM2-135M."""
    if shape == "tiny":
        return AutoConfig.from_pretrained(TINY)
    return LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )


def plain_model(shape: str) -> LlamaForCausalLM:
    """Returns a random model that says any number of tokens, the same one each time."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(config_of(shape)).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def routed_model(shape: str) -> tuple[LlamaForCausalLM, ExpertPool]:
    """Returns that model with a pool of random experts."""
    model = plain_model(shape)
    experts = ExpertsConfig(num=EXPERTS, rank=RANK, targets=list(TARGETS))
    pool = inject(model, experts, RouterConfig(), seed=0)
    for parameter in pool.parameters():
        parameter.requires_grad_(False)
        torch.nn.init.normal_(parameter, std=0.02)
    return model, pool


def adapters(shape: str, directory: Path, *, number: int) -> list[Path]:
    """Writes LoRAs of one passage each, as PRAG keeps them; returns their directories."""
    model = get_peft_model(plain_model(shape), _lora())
    found = []
    for at in range(number):
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        model.save_pretrained(str(directory / f"passage-{at}"))
        found.append(directory / f"passage-{at}")
    return found


def adapted(shape: str, paths: list[Path]) -> PeftModel:
    """Returns the model with these adapters loaded, each by its directory's name."""
    first, *others = paths
    model = PeftModel.from_pretrained(plain_model(shape), str(first), adapter_name=first.name)
    for path in others:
        model.load_adapter(str(path), adapter_name=path.name)
    return model.eval()


def _lora() -> LoraConfig:
    return LoraConfig(r=RANK, lora_alpha=32, target_modules=list(TARGETS), task_type="CAUSAL_LM")


def tokenizer() -> PreTrainedTokenizerBase:
    """Returns one that turns tokens into text; which text doesn't matter."""
    return AutoTokenizer.from_pretrained(TINY)


def requests(
    pool: ExpertPool, *, number: int, mixtures: str, vocabulary: int, new_tokens: tuple[int, int]
) -> list[Asked]:
    """Returns requests whose mixtures are distinct, identical, uniform, or skewed.

    Args:
        pool: whose experts are mixed.
        number: of requests.
        mixtures: `skewed`: of four, one of which has most of the requests.
        vocabulary: tokens are drawn of it.
        new_tokens: least and most; in between, as many requests want half of it as twice.
    """
    dice = random.Random(0)
    torch.manual_seed(1)
    shape = (pool.num_sites, pool.num_experts)
    drawn = [torch.randn(shape) / EXPERTS**0.5 for _ in range(number)]
    of_four = [0 if at % 4 < 2 else at % 4 for at in range(number)]
    gates = {
        "distinct": lambda at: drawn[at],
        "identical": lambda at: drawn[0],
        "uniform": lambda at: torch.full(shape, 1 / EXPERTS),
        "skewed": lambda at: drawn[of_four[at] % number],
    }[mixtures]

    def tokens(count: int) -> list[int]:
        return [dice.randrange(3, vocabulary) for _ in range(count)]

    return [
        Asked(
            prompt=tokens(dice.randint(12, 48)),
            passages=tokens(PASSAGES * PASSAGE_TOKENS),
            gates=gates(at),
            new_tokens=round(math.exp(dice.uniform(*map(math.log, new_tokens)))),
        )
        for at in range(number)
    ]
