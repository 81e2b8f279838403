"""What a run's events hold of an `encode`, whose teacher and workers are stand-ins here."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from cluster.ray import driver
from cluster.record.events import read_events
from polyprag.config.files import load_config, load_saved_config
from polyprag.encoding.base import describe_base
from polyprag.errors import RunError
from polyprag.method.base_model import load_tokenizer
from polyprag.teaching.manifest import TaughtPart, TeachingManifest

PART = TaughtPart(
    index=0,
    shard="a" * 64,
    file=f"part-00000-{'b' * 12}.safetensors",
    sha256="b" * 64,
    num_bytes=900,
    num_questions=7,
    num_tokens=40,
    num_written=5,
    num_empty=1,
    num_cut=3,
)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No Ray starts; gives what was done instead, in order."""
    done: list[str] = []

    def taught(run_dir: str, config: Any, **options: Any) -> TeachingManifest:
        done.append("teach")
        base = describe_base(config.model, load_tokenizer(config.model))
        return TeachingManifest(base, {}, (PART,))

    monkeypatch.setattr(driver, "ray_session", lambda config: contextlib.nullcontext())
    monkeypatch.setattr(driver, "await_machines", lambda *args: None)
    monkeypatch.setattr(driver, "RayPool", lambda *args, **options: None)
    monkeypatch.setattr(driver, "teach_corpus", taught)
    monkeypatch.setattr(driver, "train_on_ray", lambda *args, **options: done.append("train"))
    return done


def test_the_teaching_is_told_before_the_training(
    workplace: Any, order: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config((), workplace.overrides(train__objective="both"))
    driver.encode(str(workplace.run), config)
    assert order == ["teach", "train"]
    events = read_events(str(workplace.run))
    assert [event.kind for event in events] == ["started", "teaching", "taught", "finished"]
    said = (
        "7 questions, 40 tokens of answers; 5 answers are its own, 1 of them without a word, "
        "3 of them cut before their end"
    )
    assert events[2].detail == said
    shown = capsys.readouterr().err
    assert said in shown
    most = config.generation.max_new_tokens
    assert "warning: most of the teacher's own answers (3 of 5) are cut" in shown
    assert f"set generation.max_new_tokens={2 * most}" in shown


def test_a_teacher_that_fails_is_told(
    workplace: Any, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **options: Any) -> None:
        raise RunError("a worker was killed")

    monkeypatch.setattr(driver, "teach_corpus", fails)
    config = load_config((), workplace.overrides(train__objective="both"))
    with pytest.raises(RunError, match="was killed"):
        driver.encode(str(workplace.run), config)
    events = read_events(str(workplace.run))
    assert [event.kind for event in events] == ["started", "teaching", "failed"]
    assert events[2].detail == "a worker was killed" and order == []


def test_without_a_teacher_nothing_is_told_of_one(workplace: Any, order: list[str]) -> None:
    driver.encode(str(workplace.run), load_config((), workplace.overrides()))
    assert order == ["train"]
    kinds = [event.kind for event in read_events(str(workplace.run))]
    assert kinds == ["started", "finished"]


def test_the_caller_is_told_once_nothing_refuses_the_settings(
    workplace: Any, order: list[str], tmp_path: Path
) -> None:
    saved = workplace.run / "config.yaml"
    driver.encode(str(workplace.run), load_config((), workplace.overrides()))
    shard = next((workplace.run / "corpus").glob("part-00002-*.tar"))
    data = shard.read_bytes()
    shard.write_bytes(data[:900])
    other = load_config((), workplace.overrides(train__epochs=2))
    told: list[int] = []

    def tell() -> None:
        told.append(load_saved_config(str(saved)).train.epochs)

    with pytest.raises(Exception, match="damaged"):
        driver.encode(str(workplace.run), other, before_saving=tell)
    assert told == []
    assert load_saved_config(str(saved)).train.epochs == 1
    shard.write_bytes(data)
    driver.encode(str(workplace.run), other, before_saving=tell)
    assert told == [1]  # nothing is saved yet
    assert load_saved_config(str(saved)).train.epochs == 2


def test_empty_lanes_are_told_before_the_first_training(
    workplace: Any, order: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    driver.encode(str(workplace.run), load_config((), workplace.overrides(data__lanes=7)))
    assert "note: 1 of 7 lanes have no partition" in capsys.readouterr().err
    driver.encode(str(workplace.run), load_config((), workplace.overrides(data__lanes=6)))
    assert "no partition" not in capsys.readouterr().err
    assert order == ["train", "train"]
