"""The passages that both sides learn, their question-answer pairs, and the questions on them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.examples import PASSAGES
from polyprag.augment import rules
from polyprag.augment.corpus import augment_corpus
from polyprag.config import Config
from polyprag.config.files import save_config
from polyprag.evaluation.held_out_questions import lead_questions
from polyprag.evaluation.questions import Question, read_questions
from sharding.corpus.passages import Passage
from sharding.ingest.prepare import prepare

_LEAST_PAIRS = 16  # a passage must have so many, so that every budget is a real one


@dataclass(frozen=True)
class Material:
    """Where the passages are, and the questions on some of them.

    Attributes:
        passages: the file of all passages, those with questions first.
        tuning: a file of questions on the first passages, by which settings are chosen.
        testing: a file of questions on the next passages, for the figures.
        num_tuning: how many passages have tuning questions.
        num_testing: how many have testing questions.
    """

    passages: Path
    tuning: Path
    testing: Path
    num_tuning: int
    num_testing: int

    def run(self, directory: Path, config: Config, *, num_passages: int) -> Path:
        """Makes a run of the first passages, augmented by `config.augment`."""
        directory.mkdir(parents=True)
        source = directory / "passages.jsonl"
        lines = self.passages.read_text(encoding="utf-8").splitlines(keepends=True)
        source.write_text("".join(lines[:num_passages]), encoding="utf-8")
        prepare([str(source)], directory / "corpus", partition_size=config.data.partition_size)
        augment_corpus(directory, config)
        save_config(config, directory)
        return directory


def make_material(
    directory: Path, config: Config, *, num_tuning: int, num_testing: int
) -> Material:
    """Writes the files: first the passages that the rules find much in, then all others."""
    lines = PASSAGES.read_text(encoding="utf-8").splitlines(keepends=True)
    rich = [line for line in lines if _num_pairs(line) >= _LEAST_PAIRS]
    chosen = rich[: num_tuning + num_testing]
    if len(chosen) < num_tuning + num_testing:
        raise SystemExit(f"only {len(rich)} passages of {PASSAGES} have {_LEAST_PAIRS} pairs")
    rest = [line for line in lines if line not in set(chosen)]
    passages = directory / "all-passages.jsonl"
    passages.write_text("".join([*chosen, *rest]), encoding="utf-8")
    made = Material(
        passages,
        directory / "tuning.jsonl",
        directory / "testing.jsonl",
        num_tuning,
        num_testing,
    )
    run = made.run(directory / "asked", config, num_passages=len(chosen))
    asked = list(lead_questions(run / "corpus"))
    keys = [json.loads(line)["id"] for line in chosen]
    _write(made.tuning, [q for q in asked if _key(q["id"]) in keys[:num_tuning]])
    _write(made.testing, [q for q in asked if _key(q["id"]) in keys[num_tuning:]])
    return made


def by_text(file: Path) -> dict[str, list[Question]]:
    """Returns a file's questions by the text of the passage that they are on."""
    found: dict[str, list[Question]] = {}
    for question in read_questions(file):
        found.setdefault(question.gold[0].text, []).append(question)
    return found


def _num_pairs(line: str) -> int:
    row = json.loads(line)
    passage = Passage(0, row["id"], row["title"], row["text"])
    return len(rules.augment(passage, num_rewrites=0, num_qas=1000).qas)


def _key(question_id: str) -> str:
    return question_id.rpartition("-")[0]


def _write(path: Path, questions: Sequence[dict[str, object]]) -> None:
    lines = (json.dumps(question, ensure_ascii=False) + "\n" for question in questions)
    path.write_text("".join(lines), encoding="utf-8")
