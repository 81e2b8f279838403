"""What a teacher's answers cost where a passage is read once for all that is asked about it.

    python benchmarks/teaching.py [--quick] [--json FILE] [--shape SHAPE] [--passages N]
                                  [--rounds N]

The teacher (`train.objective=distill` or `both`) is a Llama of a shape (tiny, 135M, 350M, 1B), with
random weights; it is asked the quickstart's questions about the first passages of
examples/popqa, with the answers that are written. In turns, in one process: a passage is read once
for all of its questions, or with each of them in padded batches.
"""

import json
import os
import sys
import time
from contextlib import nullcontext
from statistics import median
from unittest.mock import patch

from harness.examples import PASSAGES, ROOT
from harness.reporting import Goal, finish, options, show
from polyprag.augment import rules
from polyprag.config.files import load_config
from polyprag.method.base_model import load_tokenizer
from polyprag.teaching.teacher import PassageQuestion, Teacher
from sharding.corpus.passages import Passage
from train_step.shapes import SHAPES, llama

ONCE, EACH = "a passage is read once", "with each question"


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=("tiny", *SHAPES), default="135M")
    parser.add_argument("--passages", type=int, default=8, help="asked about")
    parser.add_argument("--rounds", type=int, default=3, help="of turns")
    args = parser.parse_args()
    shape, rounds = ("tiny", 2) if args.quick else (args.shape, args.rounds)
    os.chdir(ROOT)  # the model's path is relative to it
    config = load_config(["quickstart"], [])
    asked = questions(args.passages, config.augment.wanted_qas)
    teacher = Teacher(llama(shape), load_tokenizer(config.model), config)
    seconds: dict[str, list[float]] = {ONCE: [], EACH: []}
    for _ in range(rounds):
        for way, found in seconds.items():
            never = patch("polyprag.teaching.teacher.pass_overhead", lambda _: 10**9)
            with never if way == EACH else nullcontext():
                started = time.perf_counter()
                teacher.answer(asked)
                found.append(time.perf_counter() - started)
    rows = [(way, median(found), len(asked) / median(found)) for way, found in seconds.items()]
    show(
        f"{shape}, {len(asked)} questions about {args.passages} passages",
        ("way", "seconds", "questions/s"),
        rows,
    )
    ratio = rows[0][1] / rows[1][1]
    goals = [Goal("seconds, read once / with each", ratio, "<= .5", ratio <= 0.5)]
    finish({"quick": args.quick, "shape": shape, "seconds": seconds}, goals, args.json)
    return 0


def questions(number: int, most: int) -> list[PassageQuestion]:
    """Returns what rules ask about the first passages."""
    found = []
    lines = PASSAGES.read_text(encoding="utf-8").splitlines()[:number]
    for at, row in enumerate(map(json.loads, lines)):
        passage = Passage(at, row["id"], row["title"], row["text"])
        qas = rules.augment(passage, num_rewrites=0, num_qas=most, seed=0).qas
        found += [PassageQuestion(passage, qa.question, qa.answer) for qa in qas]
    return found


if __name__ == "__main__":
    sys.exit(main())
