"""Everywhere an encoding meets a base model, another one is refused, and the same one isn't."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from polyprag.answering.answerer import Answerer
from polyprag.cli import main
from polyprag.config import Config, ModelConfig
from polyprag.config.files import save_config
from polyprag.errors import RunError
from polyprag.verify.base import verify_base
from polyprag.verify.findings import RunFindings
from sharding.corpus.manifest import CorpusManifest


@pytest.fixture
def run(trained_run: tuple[Path, Config]) -> tuple[Path, Config]:
    """A run with its settings, as commands leave it."""
    directory, config = trained_run
    shutil.rmtree(directory / "checkpoints")
    save_config(config, directory)
    return directory, config


@pytest.fixture
def same(run: tuple[Path, Config], tmp_path: Path) -> str:
    """The same base model, elsewhere and with a config that was saved anew."""
    directory = Path(shutil.copytree(run[1].model.path, tmp_path / "same"))
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"transformers_version": "5.1.0"}))
    return str(directory)


@pytest.fixture
def other(run: tuple[Path, Config], tmp_path: Path) -> str:
    """A base model with other weights under the same config.json."""
    directory = Path(shutil.copytree(run[1].model.path, tmp_path / "other"))
    weights = load_file(directory / "model.safetensors")
    for tensor in weights.values():
        tensor.mul_(1.01)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return str(directory)


def with_base(config: Config, path: str) -> Config:
    return replace(config, model=ModelConfig(path=path))


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_ask_and_evaluate(run: tuple[Path, Config], same: str, other: str) -> None:
    directory, config = run
    question = "Where was Anna Smith born?"
    right = Answerer.open(directory, config).answer([question], mode="poly")
    again = Answerer.open(directory, with_base(config, same)).answer([question], mode="poly")
    assert [answer.text for answer in again] == [answer.text for answer in right]
    with pytest.raises(RunError, match="other weights"):
        Answerer.open(directory, with_base(config, other))
    questions = directory / "questions.jsonl"
    questions.write_text(json.dumps({"id": "q", "question": question, "answers": ["Oslo"]}) + "\n")
    out = ["--questions", questions, "--methods", "poly", "--out", directory / "results"]
    refused = command("evaluate", directory, *out, f"model.path={other}")
    assert refused.exit_code == 2 and "other weights" in refused.stderr
    assert f"set model.path={config.model.path}" in refused.stderr


def test_add_refuses_before_the_corpus_has_grown(run: tuple[Path, Config], other: str) -> None:
    directory, config = run
    new = directory / "new.jsonl"
    new.write_text(json.dumps({"id": "new", "title": "New", "text": "A new one."}) + "\n")
    before = CorpusManifest.load(directory / "corpus").num_passages
    refused = command("add", directory, new, f"model.path={other}")
    assert refused.exit_code == 2 and "other weights" in refused.stderr
    assert CorpusManifest.load(directory / "corpus").num_passages == before
    assert "other" not in (directory / "config.yaml").read_text()
    added = command("add", directory, new, "add.steps=1", "--workers", "1", "--allow-bare")
    assert added.exit_code == 0, added.output
    assert CorpusManifest.load(directory / "corpus").num_passages == before + 1
    with pytest.raises(RunError, match="other weights"):
        Answerer.open(directory, with_base(config, other))


def test_distill(run: tuple[Path, Config], other: str) -> None:
    directory, _ = run
    refused = command("distill", directory, f"model.path={other}")
    assert refused.exit_code == 2 and "other weights" in refused.stderr
    assert not (directory / "router").exists()


@pytest.mark.parametrize("spoil", ["weights", "gone", None])
def test_verify(run: tuple[Path, Config], other: str, spoil: str | None) -> None:
    directory, config = run
    path = {"weights": other, "gone": "/no/such/model", None: config.model.path}[spoil]
    save_config(with_base(config, path), directory)
    found = RunFindings()
    verify_base(found, str(directory))
    problems = [problem.message for problem in found.problems]
    assert len(problems) == (spoil == "weights") and len(found.notes) == (spoil == "gone")
    assert all("other weights" in message for message in problems)
    assert all("/no/such/model" in note for note in found.notes)
