"""A trial that went well isn't repeated, and one that depends on something else is made."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.support import remembered
from polyprag.method.support.check import check_experts

SIZES = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[ExpertPool]:
    monkeypatch.setenv("POLYPRAG_STATE_DIR", str(tmp_path / "state"))
    made: list[ExpertPool] = []

    def noting(model: LlamaForCausalLM, pool: ExpertPool) -> None:
        made.append(pool)
        check_experts(model, pool)

    monkeypatch.setattr(remembered, "check_experts", noting)
    return made


def tried(*, weights: str = "a", num: int = 3, layers: int = 2, targets: str = "up_proj") -> None:
    torch.manual_seed(0)
    sizes = SIZES | {"num_hidden_layers": layers}
    model = LlamaForCausalLM(LlamaConfig(num_attention_heads=4, **sizes)).eval()
    pool = inject(model, ExpertsConfig(num=num, targets=[targets]), RouterConfig(), seed=0)
    remembered.check_experts_once(model, pool, weights=weights)


def test_what_went_well_is_tried_once(trials: list[ExpertPool]) -> None:
    tried()
    tried()
    assert len(trials) == 1


@pytest.mark.parametrize(
    "other", [{"weights": "b"}, {"num": 4}, {"layers": 3}, {"targets": "down_proj"}]
)
def test_what_depends_on_something_else_is_tried(
    trials: list[ExpertPool], other: dict[str, object]
) -> None:
    tried()
    tried(**other)  # type: ignore[arg-type]
    assert len(trials) == 2


def test_other_code_and_other_packages_are_tried(
    trials: list[ExpertPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried()
    monkeypatch.setattr(remembered, "version", lambda name: f"another {name}")
    tried()
    monkeypatch.setattr(remembered, "_code", lambda: "other code")
    tried()
    assert len(trials) == 3


def test_what_failed_is_tried_again(
    trials: list[ExpertPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patched:
        patched.setattr(remembered, "check_experts", failing)
        with pytest.raises(RuntimeError, match="no"):
            tried()
    tried()
    assert len(trials) == 1


def test_a_home_that_cannot_be_written_to_is_no_error(
    trials: list[ExpertPool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POLYPRAG_STATE_DIR", str(tmp_path / "file" / "below"))
    tried()
    tried()
    assert len(trials) == 2
