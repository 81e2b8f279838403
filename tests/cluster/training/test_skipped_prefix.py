"""Experts that leave the prompts' beginning alone: in training, its continuation and answering."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from cluster.plan.run import plan_run
from cluster.report.plan_text import plan_text
from polyprag.answering.answerer import Answerer
from polyprag.answering.engine import Engine
from polyprag.answering.generation import decode_greedily
from polyprag.config.files import load_config, save_config
from polyprag.decoding.decoder import Decoder
from polyprag.encoding.reader import Encoding
from polyprag.errors import ConfigError
from polyprag.method.base_look import look_at_base
from polyprag.retrieval.building.index import build_index

pytestmark = pytest.mark.slow
Train = Callable[..., None]
SKIPPING = {
    "data__formats": "[qa,passage]",  # of which one kind alone has a prompt
    "experts__skip_prefix": True,
    "generation__instruction": "Be brief.",
}
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def chat(workplace: Any, tmp_path: Path) -> Any:
    """A run whose base has a chat template."""
    base = tmp_path / "chat-base"
    shutil.copytree(workplace.base, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(base)
    return type(workplace)(workplace.run, base)


def weights(run: Path) -> dict[str, np.ndarray]:
    encoding = Encoding.load(run)
    tensors = {name: tensor.numpy() for name, tensor in encoding.expert_state().items()}
    return tensors | {"rows": encoding.rows(np.arange(encoding.manifest.num_passages))}


def test_losses_do_not_depend_on_workers_stages_or_batches(
    chat: Any, train_workers: Train, tmp_path: Path
) -> None:
    others = {
        "stage 3": {"deepspeed__stage": 3, "train__max_tokens": 100},
        "exact": {"train__exact": True},
    }
    places = {name: chat.copy_to(tmp_path / name) for name in others}
    train_workers(chat, world_size=1, **SKIPPING)
    for name, changed in others.items():
        train_workers(places[name], world_size=2, **SKIPPING | changed)
        np.testing.assert_allclose(places[name].losses()[:8], chat.losses()[:8], atol=1e-5)


def test_a_continued_training_ends_with_the_same_bits_and_a_changed_one_is_refused(
    chat: Any, train_workers: Train, tmp_path: Path
) -> None:
    stopped = chat.copy_to(tmp_path / "stopped")
    train_workers(chat, world_size=1, **SKIPPING)
    train_workers(stopped, world_size=1, die_at=7, **SKIPPING)
    with pytest.raises(Exception, match=r"experts\.skip_prefix=True"):
        train_workers(stopped, world_size=1, **SKIPPING | {"experts__skip_prefix": False})
    train_workers(stopped, world_size=1, **SKIPPING)
    ours, theirs = weights(stopped.run), weights(chat.run)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_answering_skips_it_too(
    chat: Any, train_workers: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_workers(chat, world_size=1, **SKIPPING)
    trained = chat.overrides(**SKIPPING, generation__max_new_tokens=2)
    config = load_config([], [*trained, "index.encoder=lsa", "index.lsa_dims=4"])
    save_config(config, chat.run)
    build_index(chat.run, config)
    asked = replace(config, experts=replace(config.experts, skip_prefix=False))
    answerer = Answerer.open(chat.run, asked, modes=("poly",))
    prefix = answerer.prompts.skipped_ids  # as the encoding was trained, whatever is asked for
    assert answerer.tokenizer.decode(prefix) == "<|system|>Be brief.<|user|>"
    given: list[Any] = []

    def noting(*args: Any, prefix_ids: Any = (), **kwargs: Any) -> Any:
        given.append(prefix_ids)
        return decode_greedily(*args, prefix_ids=prefix_ids, **kwargs)

    monkeypatch.setattr("polyprag.answering.answerer.decode_greedily", noting)
    assert answerer.answer(["Where was Ada born?"], mode="poly")
    assert given == [prefix]
    made: list[Any] = []

    class Noting(Decoder):
        def __init__(self, *args: Any, prefix_ids: Any = (), **kwargs: Any) -> None:
            made.append(prefix_ids)
            super().__init__(*args, prefix_ids=prefix_ids, **kwargs)

    monkeypatch.setattr("polyprag.answering.engine.Decoder", Noting)
    with Engine(answerer, run_dir=chat.run) as engine:
        assert engine.ask("Where was Ada born?", mode="poly").text is not None
    assert made == [prefix]


def test_a_plan_says_what_needs_no_experts(chat: Any) -> None:
    everywhere = SKIPPING | {"experts__skip_prefix": False}
    plans = {}
    for changed in (everywhere, SKIPPING):
        config = load_config([], chat.overrides(**changed))
        plan = plan_run(str(chat.run), config)
        plans[config.experts.skip_prefix] = plan.forecast.tokens
        text = plan_text(plan, config, run_dir=str(chat.run))
        assert ("experts.skip_prefix=true leaves it out" in text) is not config.experts.skip_prefix
    assert plans[True].skippable == 0 < plans[False].skippable
    left = plans[False].per_example * (1 - plans[False].skippable)
    assert left == pytest.approx(plans[True].per_example)


def test_a_base_without_a_chat_template_is_refused_before_anything_starts(workplace: Any) -> None:
    config = load_config([], workplace.overrides(**SKIPPING))
    with pytest.raises(ConfigError, match="plain layout begin with nothing"):
        look_at_base(config, say=print)
