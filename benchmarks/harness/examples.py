"""What the repository's examples/ holds for benchmarks: passages, questions and a small base."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PASSAGES = ROOT / "examples" / "popqa" / "passages.jsonl"
QUESTIONS = ROOT / "examples" / "popqa" / "questions.jsonl"
TINY_BASE = ROOT / "examples" / "tiny-base"


def first_questions(directory: Path, *, num_questions: int) -> tuple[Path, Path]:
    """Writes the first of PopQA's questions and their passages to files of their own."""
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()[:num_questions]
    wanted = {(p["title"], p["text"]) for line in lines for p in json.loads(line)["passages"]}
    kept = []
    for line in PASSAGES.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if (row["title"], row["text"]) in wanted:
            kept.append(line)
    passages, questions = directory / "passages.jsonl", directory / "questions.jsonl"
    passages.write_text("\n".join(kept) + "\n", encoding="utf-8")
    questions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return passages, questions
