"""vLLM's plugin against stand-ins of vLLM's classes: what it resolves, writes and leaves alone.

docs/vllm.md says what was tried with vLLM's own classes.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from polyprag.answering.engine import Engine
from polyprag.config import Config
from polyprag.encoding.reader import Encoding
from polyprag.export.vllm import register
from polyprag.method.router import gates as gates_of_rows

IDS = torch.tensor([[ord(letter) for letter in "Question: Where was Anna born?"]])


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str
    base_model_name: str | None = None


class Registry:
    def __init__(self) -> None:
        self.resolvers: dict[str, Any] = {}

    def register_resolver(self, name: str, resolver: Any) -> None:
        self.resolvers[name] = resolver


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Stands in for vLLM's two modules."""
    request, resolver = ModuleType("vllm.lora.request"), ModuleType("vllm.lora.resolver")
    made = Registry()
    vars(request)["LoRARequest"] = LoRARequest
    vars(resolver).update(LoRAResolver=object, LoRAResolverRegistry=made)
    for name, module in (
        ("vllm", ModuleType("vllm")),
        ("vllm.lora", ModuleType("vllm.lora")),
        ("vllm.lora.request", request),
        ("vllm.lora.resolver", resolver),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    for variable in ("RUN", "DIR", "RANK"):
        monkeypatch.delenv(f"POLYPRAG_VLLM_{variable}", raising=False)
    return made


@pytest.fixture
def resolve(
    registry: Registry,
    encoded_run: tuple[Path, Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], LoRARequest | None]:
    monkeypatch.setenv("POLYPRAG_VLLM_RUN", str(encoded_run[0]))
    monkeypatch.setenv("POLYPRAG_VLLM_DIR", str(tmp_path / "adapters"))
    register()
    (resolver,) = registry.resolvers.values()

    def resolved(name: str) -> LoRARequest | None:
        found: LoRARequest | None = asyncio.run(resolver.resolve_lora("base", name))
        return found

    return resolved


def test_an_adapter_by_name_computes_what_the_passages_mixture_does(
    resolve: Callable[[str], LoRARequest | None], encoded_run: tuple[Path, Config]
) -> None:
    found = resolve("poly:p3,p8")
    assert found is not None and found.base_model_name == "base"
    run, config = encoded_run
    base = AutoModelForCausalLM.from_pretrained(config.model.path)
    adapted = PeftModel.from_pretrained(base, found.lora_path).eval()
    with torch.no_grad():
        logits = adapted(IDS).logits
    with Engine.open(run, config) as engine:
        loaded = engine.loaded
        served = engine.ask("Who?", passages=("p3", "p8")).gates  # of rows in fp16
    assert served is not None and loaded.pool is not None
    rows = torch.from_numpy(Encoding.load(run).rows([3, 8]))
    gates = gates_of_rows(rows, loaded.router).mean(dim=0)
    torch.testing.assert_close(gates, torch.from_numpy(served), atol=1e-3, rtol=1e-2)
    with torch.no_grad(), loaded.pool.gated(gates[None]):
        expected = loaded.model(IDS).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    card = (Path(found.lora_path) / "README.md").read_text()
    assert "| 0.5 | p3 | Dario |" in card and "| 0.5 | p8 | Irene |" in card


def test_one_is_made_once_and_each_has_a_number_of_its_own(
    resolve: Callable[[str], LoRARequest | None],
) -> None:
    first, again, other = resolve("poly:p3"), resolve("poly:p3"), resolve("poly:p4")
    assert first is not None and again is not None and other is not None
    assert first == again and first.lora_path != other.lora_path
    assert first.lora_int_id != other.lora_int_id and 0 < first.lora_int_id < 2**31


def test_names_that_are_not_ours_and_passages_that_are_not_there(
    resolve: Callable[[str], LoRARequest | None], caplog: pytest.LogCaptureFixture
) -> None:
    assert resolve("somebody/adapter") is None and not caplog.text
    assert resolve("poly:nobody") is None and "nobody" in caplog.text
    assert resolve("poly:p%33") == resolve("poly:p%33") != resolve("poly:p3")  # names are vLLM's


def test_a_smaller_rank(
    registry: Registry,
    encoded_run: tuple[Path, Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POLYPRAG_VLLM_RUN", str(encoded_run[0]))
    monkeypatch.setenv("POLYPRAG_VLLM_DIR", str(tmp_path))
    monkeypatch.setenv("POLYPRAG_VLLM_RANK", "4")
    register()
    found = asyncio.run(registry.resolvers["polyprag"].resolve_lora("base", "poly:p3"))
    assert '"r": 4' in (Path(found.lora_path) / "adapter_config.json").read_text()
    for wrong in ("none", "0"):
        monkeypatch.setenv("POLYPRAG_VLLM_RANK", wrong)
        with pytest.raises(ValueError, match="must be a number above 0"):
            register()


def test_nothing_is_registered_without_a_run(registry: Registry) -> None:
    register()
    assert registry.resolvers == {}


def test_vllm_finds_the_plugin() -> None:
    (found,) = entry_points(group="vllm.general_plugins", name="polyprag")
    assert found.load() is register
