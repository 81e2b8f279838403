"""Other people's clients ask a server unchanged; `make clients` installs them in .venv-clients."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from polyprag.answering.request import Request
from polyprag.decoding.sampling import Sampling
from tests.polyprag.serving.clients import ASKED
from tests.polyprag.serving.conftest import Serving

CLIENTS = Path(__file__).with_name("clients.py")
PYTHON = Path(__file__).parents[3] / ".venv-clients" / "bin" / "python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="needs `make clients`"),
]


def found_by(client: str, serving: Serving) -> dict[str, Any]:
    keep = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OPENAI_API_KEY": "none"}
    line = [str(PYTHON), str(CLIENTS), client, serving.url, serving.service.base]
    ran = subprocess.run(
        line, env=keep | quiet, capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (told,) = [each for each in ran.stdout.splitlines() if each.startswith("FOUND ")]
    found: dict[str, Any] = json.loads(told.removeprefix("FOUND "))
    return found


def test_langchain(serving: Serving) -> None:
    found = found_by("langchain", serving)
    answer, index = serving.engine.ask(ASKED), serving.engine.loaded.index
    assert found["said"] == [answer.text] * 4
    assert found["tokens"] == len(answer.choices[0].ids)
    assert index is not None
    expected = index.vectors_of(["Anna Smith", "Oslo"])
    assert [pytest.approx(vector, abs=1e-6) for vector in expected.tolist()] == found["vectors"]


def test_llamaindex(serving: Serving) -> None:
    found = found_by("llamaindex", serving)
    assert found["said"] == [serving.engine.ask(ASKED).text] * 3
    request = Request(prompt="Anna Smith was", mode="closed", sampling=Sampling(max_new_tokens=5))
    (continued,) = serving.engine.generate([request])
    assert found["continued"] == continued.choices[0].text


def test_lm_eval(serving: Serving) -> None:
    found = found_by("lm_eval", serving)
    loaded = serving.engine.loaded
    for (context, text), (score, is_greedy) in zip(found["pairs"], found["scores"], strict=True):
        ids = loaded.tokenizer(context + text, return_tensors="pt")["input_ids"]
        before = len(loaded.tokenizer(context)["input_ids"])
        with torch.no_grad():
            logprobs = loaded.model(ids).logits[0].log_softmax(-1)
        own = [(float(logprobs[at - 1, ids[0, at]]), at) for at in range(before, ids.shape[1])]
        assert score == pytest.approx(sum(each for each, _ in own), abs=1e-3)
        assert is_greedy == all(int(logprobs[at - 1].argmax()) == ids[0, at] for _, at in own)
    sampling = Sampling(max_new_tokens=5, stops=("\n",))
    (said,) = serving.engine.generate(
        [Request(prompt="Anna Smith was", mode="closed", sampling=sampling)]
    )
    assert found["said"] == [said.choices[0].text]
