"""SmolLM2 from its GGUF file is trained on a few passages, MiniLM finds them, and both answer."""

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from polyprag.answering.answerer import Answerer
from polyprag.config.files import load_config
from polyprag.encoding.reader import Encoding

ROOT = Path(__file__).parents[3]
LEADS = {
    "Solveig Brandt": "Solveig Brandt (born 12 March 1951 in Bergen) is a Norwegian painter.",
    "Tomas Okello": "Tomas Okello (born 3 June 1948 in Gulu) is a Ugandan chemist.",
    "Harrow Lighthouse": "The Harrow Lighthouse is a lighthouse in Cornwall, built in 1887.",
    "Red kiln bread": "Red kiln bread is a kind of flat bread from the north of Portugal.",
}


@pytest.fixture
def real_model() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_model", ROOT / "examples/real_model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not module.sources():
        pytest.skip("the wheels with the two models aren't installed (`make real-model`)")
    return module


@pytest.mark.slow
def test_a_gguf_model_learns_and_answers_what_minilm_finds(
    real_model: ModuleType,
    polyprag: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    models, run = real_model.make(tmp_path / "models"), tmp_path / "run"
    source = tmp_path / "passages.jsonl"
    lines = [{"id": title, "title": title, "text": text} for title, text in LEADS.items()]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = [
        f"model.path={models[real_model.SMOLLM2]}",
        f"index.encoder_path={models[real_model.MINILM]}",
        "augment.num_qas=2",
        "data.partition_size=2",
        "data.lanes=2",
        "train.epochs=3",
        "train.experts_lr=3e-3",  # of few passages
    ]
    for command in (
        ["prepare", str(run), str(source)],
        *([c, str(run)] for c in ("augment", "encode", "index")),
    ):
        done = polyprag(*command, "--config", "smollm2", *settings)
        assert done.returncode == 0, done.stderr

    steps = [json.loads(line) for line in (run / "logs" / "metrics.jsonl").open()]
    assert steps[-1]["loss"] < steps[0]["loss"] / 2
    assert {step["world_size"] for step in steps} == {2}
    assert Encoding.load(run).manifest.base_model.path == str(models[real_model.SMOLLM2])
    (converted,) = (tmp_path / "cache/polyprag/models/index").glob("*/model.safetensors")
    before = converted.stat().st_mtime_ns

    config = load_config(["smollm2"], settings, run_dir=run)
    answerer = Answerer.open(run, config, modes=("closed", "rag", "poly"))
    (said,) = answerer.answer(["What is the capital of France?"], mode="closed")
    assert "Paris" in said.text
    asked = ["Which artist is from Norway?", "What do Portuguese people bake?"]
    wanted = ["Solveig Brandt", "Red kiln bread"]
    for mode in ("rag", "poly"):
        for answer, title in zip(answerer.answer(asked, mode=mode), wanted, strict=True):
            assert answer.hits is not None and answer.text
            assert [passage.title for passage in answer.hits.passages] == [title]
            assert (answer.gates is not None) == (mode == "poly")
            assert answer.gates is None or np.isfinite(answer.gates).all()
    assert converted.stat().st_mtime_ns == before  # every process has used that one
