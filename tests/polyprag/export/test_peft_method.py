"""RUN/encoding as a PEFT adapter: loaded by peft, gated by passage, saved, trained, quantised."""

import json
import re
import threading
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

import polyprag
from polyprag.answering.engine import Engine
from polyprag.config import Config
from polyprag.encoding.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from polyprag.encoding.mixtures import Mixtures
from polyprag.encoding.reader import Encoding
from polyprag.errors import ConfigError, RunError
from polyprag.method.base_model import load_base
from polyprag.method.experts import inject
from polyprag.method.prompts import qa_prompt

IDS = torch.tensor([[ord(letter) for letter in "Question: Where was Anna born?"]])


@pytest.fixture(autouse=True)
def registered() -> None:
    polyprag.register_peft()
    polyprag.register_peft()  # again: nothing


@pytest.fixture
def base(encoded_run: tuple[Path, Config]) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(encoded_run[1].model.path)
    return model.eval()


def loaded(base: nn.Module, run: Path) -> PeftModel:
    return PeftModel.from_pretrained(base, str(run / "encoding")).eval()


def expected(run: Path, config: Config, mixtures: list[object], ids: torch.Tensor) -> torch.Tensor:
    """Logits of the run's own pool."""
    model, _ = load_base(config.model)
    encoding = Encoding.load(run)
    pool = inject(model, encoding.config.experts, encoding.config.router, seed=0)
    pool.load_state_dict(encoding.expert_state())
    gates = torch.stack([Mixtures(str(run)).of(mixed).gates for mixed in mixtures])
    with torch.no_grad(), pool.gated(gates):
        return model(ids).logits


def test_peft_computes_what_the_pool_does_for_each_sequence(
    encoded_run: tuple[Path, Config], base: PreTrainedModel
) -> None:
    run, config = encoded_run
    model = loaded(base, run)
    mixtures = ["p0", ["p1", "p3"], {"p2": 0.7, "p5": -0.2}]
    ids = IDS.repeat(3, 1)
    with torch.no_grad():
        closed = model(ids).logits
        with model.passages(*mixtures):
            got = model(ids).logits
        with model.passages("p0"):
            one = model(ids).logits
        assert torch.equal(model(ids).logits, closed), "outside of the block it is the base"
        with model.passages("p0"), model.disable_adapter():
            assert torch.equal(model(ids).logits, closed)
    torch.testing.assert_close(got, expected(run, config, mixtures, ids), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one, got[:1].expand_as(one), atol=1e-5, rtol=1e-5)
    differences = [(got[i] - got[j]).abs().max() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert min(differences) > 0.01 and (got - closed).abs().max() > 0.01


def test_it_says_what_the_engine_says(
    encoded_run: tuple[Path, Config], base: PreTrainedModel
) -> None:
    run, config = encoded_run
    with Engine.open(run, config, modes=["poly"]) as engine:
        prompt = engine.loaded.tokenizer(
            qa_prompt("Where was Anna born?"), return_tensors="pt"
        ).input_ids
        answer = engine.ask("Where was Anna born?", mode="poly", passages=["p4"])
    model = loaded(base, run)
    with model.passages("p4"):
        said = model.generate(prompt, max_new_tokens=6, do_sample=False)[0, prompt.shape[1] :]
    assert engine.loaded.tokenizer.decode(said).startswith(answer.text) and answer.text


def test_saved_and_loaded_again_it_still_finds_its_passages(
    encoded_run: tuple[Path, Config], base: PreTrainedModel, tmp_path: Path
) -> None:
    run, config = encoded_run
    loaded(base, run).save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} >= {
        ADAPTER_CONFIG,
        ADAPTER_WEIGHTS,
    }
    again = AutoModelForCausalLM.from_pretrained(config.model.path).eval()
    model = PeftModel.from_pretrained(again, str(tmp_path / "saved")).eval()
    with torch.no_grad(), model.passages("p1"):
        got = model(IDS).logits
    torch.testing.assert_close(got, expected(run, config, ["p1"], IDS), atol=1e-5, rtol=1e-5)


def test_two_adapters_have_gates_of_their_own(
    encoded_run: tuple[Path, Config], base: PreTrainedModel
) -> None:
    run, config = encoded_run
    model = loaded(base, run)
    model.load_adapter(str(run / "encoding"), "second")
    with torch.no_grad(), model.passages("p0"), model.passages("p1", adapter="second"):
        first = model(IDS).logits
        model.set_adapter("second")
        second = model(IDS).logits
    torch.testing.assert_close(first, expected(run, config, ["p0"], IDS), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(second, expected(run, config, ["p1"], IDS), atol=1e-5, rtol=1e-5)


def test_threads_have_gates_of_their_own(
    encoded_run: tuple[Path, Config], base: PreTrainedModel
) -> None:
    run, config = encoded_run
    model = loaded(base, run)
    want = {key: expected(run, config, [key], IDS) for key in ("p0", "p1")}
    meet = threading.Barrier(2)
    wrong: list[str] = []

    def ask(key: str) -> None:
        with torch.no_grad(), model.passages(key):
            for _ in range(20):
                meet.wait(timeout=30)
                if not torch.allclose(model(IDS).logits, want[key], atol=1e-5):
                    wrong.append(key)

    threads = [threading.Thread(target=ask, args=(key,)) for key in want]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_a_pool_of_ones_own_learns(base: PreTrainedModel) -> None:
    from polyprag.export.peft_method import PolypragConfig

    model = get_peft_model(base, PolypragConfig(num_experts=4, rank=2, target_modules=["up_proj"]))
    assert {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad} == {
        "polyprag_A",
        "polyprag_B",
    }
    num_sites = sum("polyprag_A" in name for name, _ in model.named_parameters())
    gates = torch.randn(1, num_sites, 4, generator=torch.Generator().manual_seed(0))
    gates.requires_grad_()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(5):
        with model.gated(gates):
            loss = model(IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and gates.grad is not None and gates.grad.abs().max() > 0
    with pytest.raises(ValueError, match=r"needs \(B, 2, 4\)"), model.gated(gates[:, :1]):
        pass
    with pytest.raises(RunError, match="doesn't say in which run"), model.passages("p0"):
        pass
    with pytest.raises(ConfigError, match="polyprag export RUN"):
        model.merge_and_unload()


def test_quantised_linears_carry_experts(
    encoded_run: tuple[Path, Config], base: PreTrainedModel
) -> None:
    """An int8 Linear that is no `nn.Linear`, as those of GPTQ and AWQ are none."""
    run, config = encoded_run
    for layer in base.model.layers:
        for name in ("gate_proj", "up_proj", "down_proj"):
            setattr(layer.mlp, name, Int8Linear(getattr(layer.mlp, name)))
    model = loaded(base, run)
    with torch.no_grad():
        with model.passages("p0"):
            got = model(IDS).logits
        closed = model(IDS).logits
    want = expected(run, config, ["p0"], IDS)
    assert (got - closed).abs().max() > 0.01
    assert (got - want).abs().mean() < 0.05 * (want - closed).abs().mean()


class Int8Linear(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.scale = float(linear.weight.abs().max()) / 127
        self.register_buffer(
            "qweight", (linear.weight / self.scale).round().to(torch.int8).detach()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.qweight.to(x.dtype) * self.scale).T


def test_errors_say_what_to_do(trained_run: tuple[Path, Config], base: PreTrainedModel) -> None:
    run, _ = trained_run
    model = loaded(base, run)
    with pytest.raises(Exception, match="p77"), model.passages("p77"):
        pass
    with pytest.raises(ConfigError, match="needs a passage"), model.passages([]):
        pass
    path = run / "encoding" / ADAPTER_CONFIG
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"experts_sha256": "0" * 64}))
    model.load_adapter(str(run / "encoding"), "stale")
    with pytest.raises(RunError, match="other experts"), model.passages("p0", adapter="stale"):
        pass


def test_the_adapter_is_no_second_copy(encoded_run: tuple[Path, Config]) -> None:
    directory = encoded_run[0] / "encoding"
    assert (directory / ADAPTER_WEIGHTS).samefile(
        directory / Encoding.load(encoded_run[0]).manifest.experts.file
    )


def test_the_pages_code_runs(
    encoded_run: tuple[Path, Config], capsys: pytest.CaptureFixture[str]
) -> None:
    run, config = encoded_run
    page = (Path(__file__).parents[3] / "docs/export.md").read_text(encoding="utf-8")
    (block,) = (
        block
        for block in re.findall(r"^```python\n(.*?)^```", page, re.S | re.M)
        if "register_peft" in block
    )
    ours = block.replace("BASE", repr(config.model.path))
    ours = ours.replace("runs/quickstart", str(run)).replace("popqa-passage-0354", "p3")
    exec(compile(ours, "docs/export.md", "exec"), {})
    assert "Answer:" in capsys.readouterr().out
