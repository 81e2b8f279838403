"""Model-FLOP utilisation: the arithmetic that a step needs, as a share of what devices could do.

As in PaLM (arXiv 2204.02311, appendix B), what is recomputed, padded or thrown away doesn't count.
The base is frozen: it is run forward, and gradients go through it but not to it, 4 operations for
each weight and token; experts are trained, 6. The head works where there is a loss.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from polyprag.method.examples import Example
from polyprag.method.experts import ExpertPool
from polyprag.method.linears import layer_of

# Dense bf16, of NVIDIA's datasheets: H200 and H100 SXM, A100, L40S.
_DATASHEETS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}
_CPU_SIDE, _GPU_SIDE = 512, 8192  # of the square matrices that others multiply
_TRIES = 4


@dataclass(frozen=True, slots=True)
class StepWork:
    """How much arithmetic an example needs, in floating-point operations.

    Attributes:
        token: of each of its tokens.
        learnt: of each token with a loss, besides.
        pair: of each pair of its tokens, for attention; those of a prefix that is there already
            are only attended to.
    """

    token: int
    learnt: int
    pair: int

    def of(self, examples: Sequence[Example]) -> float:
        """Returns the operations of forward and backward passes of examples."""
        return float(
            sum(
                self.token * len(each)
                + self.learnt * each.num_counted
                + self.pair * len(each) * (len(each) + 2 * each.skipped)
                for each in examples
            )
        )


def step_work(model: PreTrainedModel, pool: ExpertPool) -> StepWork:
    """Counts a model's Linears in decoder layers, its experts, attention and head.

    Args:
        model: with `pool`; what isn't a Linear isn't counted, such as fused routed experts.
        pool: the experts.
    """
    experts = sum(outs * ins for outs, ins in pool.shapes().values())
    linears = sum(
        module.in_features * module.out_features
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and layer_of(name) is not None
    )
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 0
    width = getattr(config, "head_dim", None) or config.hidden_size // max(heads, 1)
    head_of: Callable[[], object] = model.get_output_embeddings
    head = head_of()
    size = head.in_features * head.out_features if isinstance(head, nn.Linear) else 0
    # Scores and what is taken by them, each forward and twice backward, of the half before a token.
    pair = 6 * heads * width * config.num_hidden_layers
    # Experts are Linears, too, and are trained besides.
    return StepWork(token=4 * linears + 2 * experts, learnt=4 * size, pair=pair)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Returns the operations a second that one worker's device could do.

    By its datasheet where that is known, else by products of square matrices, the fastest of a few;
    workers on one machine measure at once, as they train at once.
    """
    if device.type == "cuda" and dtype == torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        for model, peak in _DATASHEETS.items():
            if model in name:
                return peak
    side = _GPU_SIDE if device.type == "cuda" else _CPU_SIDE
    left = torch.ones((side, side), dtype=dtype, device=device)
    fastest = float("inf")
    for _ in range(_TRIES):
        started = time.perf_counter()
        product = left @ left
        product[0, 0].item()  # a GPU has done it by then
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * side**3 / fastest
