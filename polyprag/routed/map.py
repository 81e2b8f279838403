"""A small network from a question's embedding to the mixture of experts, without any passage.

One hidden layer. Ridge regression and random features (nearly kernel regression) were measured,
too, and are far behind (docs/experiments.md). Rows begin as random codes, which have no rule that
could be learned: the map memorises which code goes with which questions, and needs about one hidden
unit a passage for it. So it is larger than the routing table that it stands in for.

n questions, D dimensions, H hidden units, S sites, K experts, O = S K.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from polyprag.errors import RunError

Gates = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]

_NAMES = ("hidden.weight", "hidden.bias", "out.weight", "out.bias")
_SCALED_ON = 8192  # questions whose gates give the mean and the scale of all
_HELD_OUT_EVERY = 10
_RATE = 5e-3  # of Adam, at the start; falls linearly to 0


class RoutingMap:
    """A fitted map.

    Attributes:
        num_sites: S.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, num_sites: int) -> None:
        """Takes fitted weights; `fit_map` makes them.

        Args:
            tensors: float32 `hidden.weight` (H, D), `hidden.bias` (H,), `out.weight` (O, H) and
                `out.bias` (O,).
            num_sites: S, of which O is a multiple.

        Raises:
            ValueError: one is missing, or they don't fit together.
        """
        if set(tensors) != set(_NAMES):
            raise ValueError(f"its tensors must be {', '.join(_NAMES)}")
        hidden_HD, bias_H, out_OH, bias_O = (tensors[name] for name in _NAMES)
        shapes_fit = (
            hidden_HD.ndim == out_OH.ndim == 2
            and bias_H.shape == hidden_HD.shape[:1] == out_OH.shape[1:]
            and bias_O.shape == out_OH.shape[:1]
            and num_sites > 0
            and len(bias_O) % num_sites == 0
        )
        if not shapes_fit:
            raise ValueError("its tensors don't fit together")
        for name, tensor in tensors.items():
            if tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"{name} isn't of finite float32 numbers")
        self._tensors = {name: tensors[name] for name in _NAMES}
        self.num_sites = num_sites

    @property
    def dims(self) -> int:
        """D."""
        return int(self._tensors["hidden.weight"].shape[1])

    @property
    def num_experts(self) -> int:
        """K."""
        return len(self._tensors["out.bias"]) // self.num_sites

    @property
    def num_parameters(self) -> int:
        """How many numbers it is made of."""
        return sum(tensor.numel() for tensor in self._tensors.values())

    def tensors(self) -> dict[str, Tensor]:
        """Returns what makes it again."""
        return dict(self._tensors)

    def gates(self, embeddings_nD: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Returns the mixtures (n, S, K) of questions.

        Zeros (the base alone) where an embedding is zero.

        With softmax and sigmoid gates they add up to 1 only nearly, and may be a little below 0.
        """
        embedded_nD = torch.from_numpy(np.ascontiguousarray(embeddings_nD))
        with torch.inference_mode():
            gates_nO = _forward(self._tensors, embedded_nD)
            gates_nO[(embedded_nD == 0).all(dim=1)] = 0
        gates: npt.NDArray[np.float32] = gates_nO.numpy()
        return gates.reshape(len(gates), self.num_sites, self.num_experts)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A map and how well it does on the questions that were held out.

    Attributes:
        map: fitted on nine tenths of the questions.
        cosine: mean of that between predicted and true gates on the other tenth; None of fewer
            than ten questions, all of which were fitted on.
        steps: updates.
    """

    map: RoutingMap
    cosine: float | None
    steps: int


def fit_map(
    embeddings_nD: npt.NDArray[np.float32],
    gates_of: Gates,
    *,
    num_sites: int,
    hidden: int,
    epochs: int,
    batch_size: int = 128,
    seed: int = 0,
    progress: Callable[[int, float], None] = lambda count, loss: None,
) -> Fitted:
    """Fits a map to the least squared error of the gates, on the GPU where there is one.

    Args:
        embeddings_nD: of at least one question.
        gates_of: the gates (b, O) of questions by their positions (b,), asked for again and again.
        num_sites: S.
        hidden: H.
        epochs: over the questions.
        batch_size: questions an update.
        seed: of the weights and of the order.
        progress: called after each update with its number of questions and its loss, as a share of
            the gates' variance.

    Raises:
        RunError: the loss isn't finite.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    positions = np.arange(len(embeddings_nD))
    is_held_out = positions % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
    fitted_on, held_out = positions[~is_held_out], positions[is_held_out]
    sample = fitted_on[:: -(-len(fitted_on) // _SCALED_ON)]
    mean_O, scale = _mean_and_scale(gates_of(sample))
    # Unit vectors become vectors whose entries have a variance of 1, as the initialisation wants.
    stretch = float(embeddings_nD.shape[1]) ** 0.5
    tensors = _initial(embeddings_nD.shape[1], hidden, len(mean_O), seed=seed, device=device)
    parameters = [tensor.requires_grad_() for tensor in tensors.values()]
    optimizer = torch.optim.Adam(parameters, lr=_RATE)
    num_steps = epochs * -(-len(fitted_on) // batch_size)
    order = np.random.default_rng(seed)
    step = 0
    for _ in range(epochs):
        shuffled = order.permutation(fitted_on)
        for start in range(0, len(shuffled), batch_size):
            batch = shuffled[start : start + batch_size]
            embedded_bD = torch.from_numpy(embeddings_nD[batch] * np.float32(stretch)).to(device)
            wanted_bO = torch.from_numpy((gates_of(batch) - mean_O) / scale).to(device)
            optimizer.param_groups[0]["lr"] = _RATE * (1 - step / num_steps)
            loss = F.mse_loss(_forward(tensors, embedded_bD), wanted_bO)
            loss_now = float(loss.detach())
            if not isfinite(loss_now):
                raise RunError(
                    f"update {step + 1} of the map isn't taken: its loss isn't finite, and no map "
                    "is written; look at the questions' vectors and the rows"
                )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            step += 1
            progress(len(batch), loss_now)
    state = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    state["hidden.weight"] *= stretch
    state["out.weight"] *= float(scale)
    state["out.bias"] = state["out.bias"] * float(scale) + torch.from_numpy(mean_O)
    fitted = RoutingMap(state, num_sites=num_sites)
    cosine = None
    if len(held_out):
        cosine = float(np.mean(_cosines(fitted, embeddings_nD, gates_of, held_out)))
    return Fitted(fitted, cosine, step)


def num_fitted_on(num_questions: int) -> int:
    """Returns how many of n questions `fit_map` fits on; every tenth is held out."""
    return num_questions - num_questions // _HELD_OUT_EVERY


def _forward(tensors: Mapping[str, Tensor], embedded_bD: Tensor) -> Tensor:
    hidden_bH = F.gelu(F.linear(embedded_bD, tensors["hidden.weight"], tensors["hidden.bias"]))
    out_bO: Tensor = F.linear(hidden_bH, tensors["out.weight"], tensors["out.bias"])
    return out_bO


def _initial(dims: int, hidden: int, num_out: int, *, seed: int, device: str) -> dict[str, Tensor]:
    """Returns random weights of PyTorch's usual size: uniform within 1 / sqrt(inputs)."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, inputs: int) -> Tensor:
        within_1 = 2 * torch.rand(shape, generator=generator) - 1
        return within_1.mul_(inputs**-0.5).to(device)

    return {
        "hidden.weight": uniform(hidden, dims, inputs=dims),
        "hidden.bias": uniform(hidden, inputs=dims),
        "out.weight": uniform(num_out, hidden, inputs=hidden),
        "out.bias": uniform(num_out, inputs=hidden),
    }


def _mean_and_scale(
    gates_nO: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], np.float32]:
    """Returns the mean gates (O,), and the spread around them; 1 where all gates are alike."""
    mean_O = gates_nO.mean(axis=0)
    scale = np.float32((gates_nO - mean_O).std())
    return mean_O, scale if scale > 0 else np.float32(1)


def _cosines(
    fitted: RoutingMap,
    embeddings_nD: npt.NDArray[np.float32],
    gates_of: Gates,
    positions: npt.NDArray[np.int64],
    *,
    at_a_time: int = 4096,
) -> list[float]:
    """Returns the cosine between predicted and true gates of each question."""
    cosines: list[float] = []
    for start in range(0, len(positions), at_a_time):
        chosen = positions[start : start + at_a_time]
        predicted_bO = fitted.gates(embeddings_nD[chosen]).reshape(len(chosen), -1)
        true_bO = gates_of(chosen)
        sizes_b = np.linalg.norm(predicted_bO, axis=1) * np.linalg.norm(true_bO, axis=1)
        cosines += ((predicted_bO * true_bO).sum(axis=1) / np.maximum(sizes_b, 1e-12)).tolist()
    return cosines
