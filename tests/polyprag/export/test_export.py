"""What peft and transformers make of an export, against the gated model."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from polyprag.answering.answerer import Answerer
from polyprag.answering.engine import Engine
from polyprag.config import Config
from polyprag.export.directory import new_directory
from polyprag.export.lora import lora_of_mixture

Done = subprocess.CompletedProcess[str]
IDS = torch.tensor([[ord(letter) for letter in "Question: Where was Anna born?"]])


@pytest.fixture(scope="module")
def answerer(encoded_run: tuple[Path, Config]) -> Answerer:
    return Answerer.open(*encoded_run)


def gated_logits(answerer: Answerer, run: Path, **fields: Any) -> torch.Tensor:
    """Logits of the model that answers with these passages."""
    with Engine(answerer, run_dir=run) as engine:
        gates = engine.ask("Where was Anna born?", **fields).gates
    assert gates is not None and answerer.pool is not None
    with torch.no_grad(), answerer.pool.gated(torch.from_numpy(gates)[None]):
        logits: torch.Tensor = answerer.model(IDS).logits
    return logits


def export(polyprag_here: Any, run: tuple[Path, Config], *arguments: str) -> Done:
    directory, config = run
    done: Done = polyprag_here(
        "export", str(directory), *arguments, f"model.path={config.model.path}"
    )
    return done


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(IDS).logits
    return logits


@pytest.mark.parametrize(
    ("chosen", "fields"),
    [
        (("--passages", "p3"), {"passages": ("p3",)}),
        (("--passages", "p3", "--passages", "p8"), {"passages": ("p3", "p8")}),
        (("--mixture", "p3", "0.7", "--mixture", "p8", "-0.2"), {"mixture": {3: 0.7, 8: -0.2}}),
        (("--question", "Where was Anna born?"), {}),
    ],
)
def test_peft_computes_what_the_mixture_computes(
    encoded_run: tuple[Path, Config],
    answerer: Answerer,
    polyprag_here: Any,
    tmp_path: Path,
    chosen: tuple[str, ...],
    fields: dict[str, Any],
) -> None:
    done = export(polyprag_here, encoded_run, *chosen, "--out", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rank"], told["error"]) == (32, 0.0)
    base = AutoModelForCausalLM.from_pretrained(encoded_run[1].model.path)
    alone = logits_of(base)
    model = PeftModel.from_pretrained(base, str(tmp_path / "out"))
    expected = gated_logits(answerer, encoded_run[0], **fields)
    torch.testing.assert_close(logits_of(model), expected, atol=1e-5, rtol=1e-5)
    assert (expected - alone).abs().max() > 0.1


def test_a_merged_model_computes_it_by_itself(
    encoded_run: tuple[Path, Config], answerer: Answerer, polyprag_here: Any, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    done = export(polyprag_here, encoded_run, "--passages", "p3", "--merge", "--out", str(out))
    assert done.returncode == 0, done.stderr
    model = AutoModelForCausalLM.from_pretrained(out)
    assert type(AutoTokenizer.from_pretrained(out)).__name__
    expected = gated_logits(answerer, encoded_run[0], passages=("p3",))
    torch.testing.assert_close(logits_of(model), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_a_smaller_rank_is_the_best_there_is_and_its_error_is_told(
    answerer: Answerer, rank: int
) -> None:
    pool = answerer.pool
    assert pool is not None
    gates = torch.randn(pool.num_sites, pool.num_experts)
    exact, cut = lora_of_mixture(pool, gates), lora_of_mixture(pool, gates, rank=rank)
    lost, whole = 0.0, 0.0
    for name, (A, B) in exact.factors.items():
        change = (B @ A).double()
        small_A, small_B = cut.factors[name]
        assert small_A.shape[0] == small_B.shape[1] == rank == cut.rank
        sizes = torch.linalg.svdvals(change)
        left = torch.linalg.matrix_norm(change - (small_B @ small_A).double())
        assert float(left) == pytest.approx(float(sizes[rank:].norm()), rel=1e-3)
        lost, whole = lost + float(left) ** 2, whole + float(sizes.norm()) ** 2
    assert cut.error == pytest.approx((lost / whole) ** 0.5, rel=1e-3)
    assert exact.error == 0 and lora_of_mixture(pool, gates, rank=999).rank == exact.rank


def test_every_passage_gets_an_adapter_of_its_own(
    encoded_run: tuple[Path, Config], answerer: Answerer, polyprag_here: Any, tmp_path: Path
) -> None:
    done = export(
        polyprag_here, encoded_run, "--all", "--rank", "4", "--out", str(tmp_path / "all")
    )
    assert done.returncode == 0, done.stderr
    assert "10 adapters" in done.stdout
    assert sorted(each.name for each in (tmp_path / "all").iterdir()) == [str(i) for i in range(10)]
    base = AutoModelForCausalLM.from_pretrained(encoded_run[1].model.path)
    model = PeftModel.from_pretrained(base, str(tmp_path / "all/7"))
    assert model.peft_config["default"].r == 4


def test_the_card_says_what_is_in_it_and_how_it_is_asked(
    encoded_run: tuple[Path, Config], polyprag_here: Any, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    export(polyprag_here, encoded_run, "--passages", "p3", "--rank", "2", "--out", out)
    card = (tmp_path / "out/README.md").read_text()
    assert "| 1 | p3 | Dario |" in card and "Question: QUESTION" in card
    assert "Frobenius" in card and "rank 2" in card and encoded_run[1].model.path in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name passages by one of"),
        (("--passages", "p1", "--all"), "name passages by one of"),
        (("--all", "--merge"), "--merge is for one mixture"),
        (("--passages", "p99"), "no passage with the key 'p99'"),
        (("--question", "xyzzy"), "no passage was found for 'xyzzy'"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(
    encoded_run: tuple[Path, Config],
    polyprag_here: Any,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    done = export(polyprag_here, encoded_run, *arguments, "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with new_directory(out, overwrite=False) as made:
        (made / "a").write_text("one")
        (made / "a").chmod(0o600)
    (tmp_path / "plain").touch()
    assert (out / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "plain").unlink()
    with (
        pytest.raises(Exception, match="--overwrite"),
        new_directory(out, overwrite=False) as made,
    ):
        pass
    with (
        pytest.raises(OSError, match="disk"),
        new_directory(out, overwrite=True) as made,
    ):
        (made / "a").write_text("two")
        raise OSError("disk")
    assert (out / "a").read_text() == "one"
    with new_directory(out, overwrite=True) as made:
        (made / "a").write_text("two")
    assert (out / "a").read_text() == "two" and list(tmp_path.iterdir()) == [out]
