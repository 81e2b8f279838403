"""The map alone, on made-up vectors: against a known function, the mean, and a formula in numpy."""

import math

import numpy as np
import pytest
import torch

from polyprag.errors import RunError
from polyprag.routed.map import RoutingMap, fit_map, num_fitted_on

NUM_SITES, NUM_EXPERTS = 2, 4
Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def unit_vectors(count: int, dims: int, *, seed: int) -> Array:
    vectors = np.random.default_rng(seed).standard_normal((count, dims), dtype=np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def random_map(*, dims: int = 6, hidden: int = 5) -> RoutingMap:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "hidden.weight": (hidden, dims),
        "hidden.bias": (hidden,),
        "out.weight": (NUM_SITES * NUM_EXPERTS, hidden),
        "out.bias": (NUM_SITES * NUM_EXPERTS,),
    }
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return RoutingMap(tensors, num_sites=NUM_SITES)


def test_gates_are_those_of_the_formula() -> None:
    fitted = random_map()
    embeddings = unit_vectors(7, 6, seed=1)
    arrays = {name: tensor.double().numpy() for name, tensor in fitted.tensors().items()}
    before = embeddings @ arrays["hidden.weight"].T + arrays["hidden.bias"]
    gelu = before * (1 + np.vectorize(math.erf)(before / math.sqrt(2))) / 2
    expected = gelu @ arrays["out.weight"].T + arrays["out.bias"]
    np.testing.assert_allclose(
        fitted.gates(embeddings), expected.reshape(7, NUM_SITES, NUM_EXPERTS), atol=1e-5
    )
    assert (fitted.dims, fitted.num_experts, fitted.num_parameters) == (6, 4, 6 * 5 + 5 + 8 * 5 + 8)


def test_a_question_without_a_known_word_gets_the_base_model_alone() -> None:
    embeddings = unit_vectors(3, 6, seed=1)
    embeddings[1] = 0
    gates = random_map().gates(embeddings)
    assert not gates[1].any() and gates[0].any() and gates[2].any()


def test_it_recovers_a_linear_map_on_vectors_it_never_saw() -> None:
    mixing = np.random.default_rng(0).standard_normal((8, 8), dtype=np.float32)
    shift = np.arange(8, dtype=np.float32)
    seen, unseen = unit_vectors(2000, 8, seed=1), unit_vectors(200, 8, seed=2)
    targets = seen @ mixing + shift
    fitted = fit_map(seen, lambda at: targets[at], num_sites=2, hidden=64, epochs=60, batch_size=64)
    wanted = unseen @ mixing + shift
    error = ((fitted.map.gates(unseen).reshape(200, 8) - wanted) ** 2).mean()
    assert error < 0.01 * wanted.var(axis=0).mean()
    assert fitted.cosine is not None and fitted.cosine > 0.999


def test_it_learns_random_codes_that_no_linear_map_can_tell_apart() -> None:
    """As rows are: one random code a passage, several questions near each other."""
    dims, num_passages, num_wordings = 16, 60, 10
    centres, codes = unit_vectors(num_passages, dims, seed=0), unit_vectors(num_passages, 8, seed=1)
    ids = np.tile(np.arange(num_passages), num_wordings)
    noise = np.random.default_rng(2).standard_normal((len(ids), dims), dtype=np.float32)
    questions = np.asarray(centres[ids] + 0.03 * noise, np.float32)
    fitted = fit_map(
        questions, lambda at: codes[ids[at]], num_sites=2, hidden=256, epochs=200, batch_size=64
    )
    asked = np.asarray(centres + 0.03 * noise[:num_passages][::-1], np.float32)
    error = ((fitted.map.gates(asked).reshape(-1, 8) - codes) ** 2).sum()
    inputs = np.hstack([questions, np.ones((len(ids), 1), np.float32)])
    linear, *_ = np.linalg.lstsq(inputs, codes[ids], rcond=None)
    of_linear = ((np.hstack([asked, np.ones((num_passages, 1))]) @ linear - codes) ** 2).sum()
    of_mean = ((codes.mean(axis=0) - codes) ** 2).sum()
    assert error < 0.3 * of_linear < 0.3 * of_mean


def test_the_cosine_is_of_questions_that_were_not_fitted_on() -> None:
    targets = unit_vectors(40, 8, seed=3)
    asked_for: list[int] = []

    def gates_of(at: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Array:
        asked_for.extend(at.tolist())
        return targets[at]

    told: list[int] = []
    embeddings = unit_vectors(40, 6, seed=4)
    fitted = fit_map(
        embeddings,
        gates_of,
        num_sites=2,
        hidden=8,
        epochs=2,
        batch_size=7,
        progress=lambda count, loss: told.append(count),
    )
    held_out = [9, 19, 29, 39]
    assert sorted(asked_for[-4:]) == held_out and not set(asked_for[:-4]) & set(held_out)
    assert sum(told) == 2 * num_fitted_on(40) == 72
    predicted = fitted.map.gates(embeddings[held_out]).reshape(4, 8)
    true = targets[held_out]
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(predicted, true, strict=True)
    ]
    assert fitted.cosine == pytest.approx(np.mean(cosines), abs=1e-6)


def test_the_same_seed_gives_the_same_map_and_few_questions_will_do() -> None:
    embeddings, targets = unit_vectors(3, 6, seed=0), unit_vectors(3, 8, seed=1)

    def fit(seed: int) -> dict[str, torch.Tensor]:
        fitted = fit_map(
            embeddings, lambda at: targets[at], num_sites=1, hidden=4, epochs=3, seed=seed
        )
        assert fitted.cosine is None
        return fitted.map.tensors()

    one, again, other = fit(0), fit(0), fit(1)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["hidden.weight"], other["hidden.weight"])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("out.bias", None, "must be hidden.weight"),
        ("out.bias", torch.zeros(7), "don't fit together"),
        ("hidden.bias", torch.zeros(4), "don't fit together"),
        ("hidden.weight", torch.zeros(5), "don't fit together"),
        ("hidden.bias", torch.full((5,), torch.nan), "hidden.bias isn't of finite"),
        ("hidden.bias", torch.zeros(5, dtype=torch.float64), "hidden.bias isn't of finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    name: str, value: torch.Tensor | None, said: str
) -> None:
    tensors = random_map().tensors()
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    with pytest.raises(ValueError, match=said):
        RoutingMap(tensors, num_sites=NUM_SITES)


def test_a_fit_that_diverges_is_refused() -> None:
    targets = np.ones((20, 8), np.float32)
    targets[7, 3] = np.inf
    vectors = unit_vectors(20, 8, seed=1)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(RunError, match="update 1 of the map isn't taken"),
    ):
        fit_map(vectors, lambda at: targets[at], num_sites=2, hidden=4, epochs=1)
