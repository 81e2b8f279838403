"""Questions on a corpus's own lead facts, in wordings that no training example used.

They need nobody to write them, so any corpus can be tested for what its encoding knows. Each comes
with the passage that it was read off, for `evaluate --gold-passages`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyprag.augment.rules import held_out_questions
from polyprag.errors import RunError
from sharding.corpus.reader import Corpus
from sharding.storage.files import atomic_write, join


def lead_questions(corpus_dir: str | Path) -> Iterator[dict[str, Any]]:
    """Yields all held-out questions on a corpus's lead facts, as lines of a question file."""
    for record in Corpus.open(corpus_dir).iterate():
        passage = record.passage
        for number, asked in enumerate(held_out_questions(passage)):
            yield {
                "id": f"{passage.key}-{number}",
                "question": asked.question,
                "answers": [asked.answer],
                "property": asked.kind,
                "passages": [{"title": passage.title, "text": passage.text, "is_supporting": True}],
            }


def write_lead_questions(run_dir: str | Path, out: str | Path, *, limit: int | None = None) -> int:
    """Writes a question file on a run's corpus.

    Args:
        run_dir: with a prepared corpus.
        out: the JSON-lines file to write.
        limit: at most so many, evenly spaced over the corpus.

    Returns:
        How many were written.

    Raises:
        RunError: the corpus has no passage that the patterns know.
    """
    questions = list(lead_questions(join(str(run_dir), "corpus")))
    if not questions:
        raise RunError(f"{run_dir}: no lead facts are in the corpus; write questions by hand")
    if limit is not None and limit < len(questions):
        questions = [questions[i * len(questions) // limit] for i in range(limit)]
    with atomic_write(out, "w") as file:
        for question in questions:
            file.write(json.dumps(question, ensure_ascii=False, allow_nan=False) + "\n")
    return len(questions)
