"""What is shown at the end: table, samples with bars, and a picture that opens."""

import io
import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from polyprag.answering.answerer import Answerer
from polyprag.answering.modes import MODES
from polyprag.config import Config
from polyprag.evaluation.questions import Question, SourcePassage
from polyprag.evaluation.report import (
    make_report,
    mixture_bars,
    print_report,
    print_samples,
    results_table,
    sample_title,
    save_picture,
)
from polyprag.evaluation.samples import ShownQuestion, sample_answers
from sharding.storage.files import write_json

RESULTS: dict[str, dict[str, Any]] = {
    "closed": {
        "f1": 0.12345,
        "em": 0.1,
        "contains": 0.2,
        "ci95": [0.1, 0.15],
        "contains_ci95": [0.176, 0.224],
        "n": 1200,
        "latency_ms_p50": 12.4,
        "latency_ms_p95": 1234.6,
    },
    "poly-wrong-row": {
        "f1": None,
        "em": None,
        "contains": None,
        "ci95": None,
        "n": 0,
        "latency_ms_p50": None,
        "latency_ms_p95": None,
    },
}


@pytest.fixture(scope="module")
def samples(encoded_run: tuple[Path, Config]) -> tuple[ShownQuestion, ...]:
    run, config = encoded_run
    answerer = Answerer.open(run, config, modes=["poly", "closed"])
    questions = [
        Question(id=str(i), question=f"Where was [red]Anna[/red] $born^{i}$?", answers=("Oslo",))
        for i in range(9)
    ]
    return sample_answers(answerer, questions).shown


def _printed(*printable: Any) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(*printable)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_table_has_percent_intervals_counts_and_gaps() -> None:
    text = _printed(results_table(RESULTS))
    closed = next(line for line in text.splitlines() if "closed" in line)
    f1, present = ["12.3", "10.0-15.0"], ["20.0", "17.6-22.4"]
    assert closed.split() == ["closed", *f1, *present, "10.0", "1,200", "12", "1,235"]
    wrong = next(line for line in text.splitlines() if "poly-wrong-row" in line)
    assert wrong.split() == ["poly-wrong-row", *5 * ["-"], "0", "-", "-"]


def test_table_of_all_methods_fits_eighty_columns() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(results_table({mode: RESULTS["closed"] for mode in MODES}))
    file = console.file
    assert isinstance(file, io.StringIO)
    rows = [line.split() for line in file.getvalue().splitlines()]
    assert [row[0] for row in rows if len(row) == 9] == list(MODES)


def test_results_of_an_earlier_version_have_no_interval_of_presence(tmp_path: Path) -> None:
    earlier = {"closed": {k: v for k, v in RESULTS["closed"].items() if k != "contains_ci95"}}
    text = _printed(results_table(earlier))
    closed = next(line for line in text.splitlines() if "closed" in line)
    assert closed.split()[:5] == ["closed", "12.3", "10.0-15.0", "20.0", "-"]
    save_picture(tmp_path / "earlier.png", earlier)
    assert matplotlib.image.imread(tmp_path / "earlier.png").size


def test_samples_are_spread_over_the_file(encoded_run: tuple[Path, Config]) -> None:
    run, config = encoded_run
    answerer = Answerer.open(run, config, modes=["poly", "closed"])
    questions = [Question(str(i), f"Where was Anna born ({i})?", ("nowhere",)) for i in range(240)]
    samples = sample_answers(answerer, questions)
    assert samples.num_tried == 24 and samples.num_right == 0
    assert [sample.question.id for sample in samples.shown] == ["5", "15", "25"]
    assert all(sample.answer.mode == "poly" for sample in samples.shown)


def test_bars_follow_the_size_of_the_gates() -> None:
    gates = np.array([[0.0, 0.5, -1.0, 0.25]], dtype=np.float32)
    (line,) = mixture_bars(gates)
    assert line.plain == "site   1/1  ▄█▂"
    assert [str(span.style) for span in line.spans] == ["cyan", "cyan", "red", "cyan"]
    assert len(mixture_bars(np.ones((12, 3), dtype=np.float32))) == 4
    assert mixture_bars(np.zeros((1, 2), dtype=np.float32))[0].plain.endswith("  ")


def test_samples_show_passages_and_mixtures_and_take_text_literally(
    samples: tuple[ShownQuestion, ...],
) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    print_samples(samples, console)
    file = console.file
    assert isinstance(file, io.StringIO)
    text = file.getvalue()
    assert text.count("[red]Anna[/red]") == 3
    assert text.count("Anna: Anna Smith was born in Oslo") == 3
    assert text.count("site ") == 3 * 4
    assert any(unicodedata.name(letter, "").endswith("EIGHTHS BLOCK") for letter in text)


def test_right_and_wrong_are_marked_with_what_was_expected(
    samples: tuple[ShownQuestion, ...],
) -> None:
    question = Question(
        id="q", question="Where was she born?", answers=("Reed City, Michigan", "x")
    )

    def answered(text: str) -> ShownQuestion:
        answer = replace(samples[0].answer, text=text)
        return ShownQuestion(question, answer, "Reed City, Michigan")

    def lines(text: str) -> list[str]:
        console = Console(file=io.StringIO(), width=120, force_terminal=False)
        print_samples([answered(text)], console)
        file = console.file
        assert isinstance(file, io.StringIO)
        return [line.strip() for line in file.getvalue().splitlines()]

    assert lines("reed city, Michigan.")[1:4] == [
        "poly     reed city, Michigan.  right",
        "closed   Reed City, Michigan  right",
        "expected Reed City, Michigan / x",
    ]
    assert lines("Bynyn")[1] == "poly     Bynyn  wrong"
    assert lines("")[1] == "poly     (nothing)  wrong"
    assert lines("Reed City")[1] == "poly     Reed City  partly right (F1 80)"  # 2 of 2, 2 of 3
    assert sample_title(answered("x")).splitlines()[1:] == ["right: x"]
    assert sample_title(answered("Bynyn")).splitlines() == [
        "Where was she born?",
        "wrong: Bynyn",
        "expected: Reed City, Michigan",
    ]
    assert sample_title(answered("long " * 99)).splitlines()[1].startswith("wrong: long long")


def test_questions_that_no_passage_of_theirs_answers_are_no_samples(
    encoded_run: tuple[Path, Config],
) -> None:
    run, config = encoded_run
    answerer = Answerer.open(run, config, modes=["poly", "closed"])

    def asking(number: int, text: str, *, is_supporting: bool = True) -> Question:
        passage = SourcePassage("Anna", text, is_supporting)
        return Question(str(number), f"Where was Anna born ({number})?", ("Oslo",), (passage,))

    questions = [asking(i, "She was a chemist.") for i in range(6)]
    questions[1] = asking(1, "She was born in Oslo, Norway.", is_supporting=False)
    questions[4] = asking(4, "She was born in Oslo, Norway.")
    samples = sample_answers(answerer, questions)
    assert [sample.question.id for sample in samples.shown] == ["4"] and samples.num_tried == 1
    del questions[4]
    assert len(sample_answers(answerer, questions).shown) == 3, "better these than none"


@pytest.mark.parametrize(
    ("right", "shown", "to_try"),
    [
        ({3, 5, 7}, [0, 3, 5], 3),  # two that are right, and one that isn't
        ({9}, [0, 1, 9], 9),
        (set(range(10)), [0, 1, 2], 0),
        (set(), [0, 1, 2], 0),
    ],
)
def test_right_and_wrong_answers_are_shown_and_a_right_one_is_to_try(
    encoded_run: tuple[Path, Config], right: set[int], shown: list[int], to_try: int
) -> None:
    run, config = encoded_run
    answerer = Answerer.open(run, config, modes=["poly", "closed"])
    texts = [f"Where was Anna born ({i})?" for i in range(10)]
    said = [answer.text for answer in answerer.answer(texts, mode="poly")]
    assert all(text.strip() for text in said), "else none could be right"
    questions = [
        Question(str(i), text, (said[i] if i in right else "nowhere",))
        for i, text in enumerate(texts)
    ]
    samples = sample_answers(answerer, questions)
    assert [sample.question.id for sample in samples.shown] == [str(i) for i in shown]
    verdicts = ["right" if i in right else "wrong" for i in shown]
    assert [sample.verdict for sample in samples.shown] == verdicts
    assert (samples.num_tried, samples.num_right) == (10, len(right))
    assert samples.to_try is not None and samples.to_try.question.id == str(to_try)


@pytest.mark.parametrize("is_right", [True, False])
def test_a_report_ends_with_a_question_that_it_has_asked(
    encoded_run: tuple[Path, Config], tmp_path: Path, is_right: bool
) -> None:
    run, config = encoded_run
    text = "Where was Anna born?"
    (answer,) = Answerer.open(run, config, modes=["poly"]).answer([text], mode="poly")
    expected = answer.text if is_right else "nowhere"
    write_json(tmp_path / "results.json", RESULTS)
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps({"id": "q", "question": text, "answers": [expected]}))
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    report = make_report(
        run,
        config,
        results_dir=tmp_path,
        questions_path=path,
        picture=tmp_path / "report.png",
    )
    print_report(report, console)
    told = report.fields()["to_try"]
    assert told["question"] == text and told["answer"] == answer.text
    assert told["verdict"] == ("right" if is_right else "wrong")
    file = console.file
    assert isinstance(file, io.StringIO)
    lines = file.getvalue().splitlines()
    assert lines[-2] == f"try it:  polyprag ask {run} '{text}' --mode poly"
    ending = "which is right" if is_right else "which is wrong; expected: nowhere"
    assert lines[-1].endswith(ending)


def test_control_characters_never_reach_the_terminal(samples: tuple[ShownQuestion, ...]) -> None:
    hostile = replace(samples[0], closed_book="\x1b[2Jgone\x07\u202e")
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    print_samples([hostile], console)
    file = console.file
    assert isinstance(file, io.StringIO)
    assert "[2Jgone" in file.getvalue()
    assert not {"\x07", "\u202e"} & set(file.getvalue()) and "\x1b[2J" not in file.getvalue()


def test_picture_is_a_png_with_and_without_samples(
    tmp_path: Path, samples: tuple[ShownQuestion, ...]
) -> None:
    for name, shown in (("with", samples), ("without", [])):
        path = tmp_path / f"{name}.png"
        save_picture(path, RESULTS, shown)
        image = matplotlib.image.imread(path)
        assert image.shape[1] == 1320 and image.std() > 0.05
    save_picture(tmp_path / "empty.png", {}, [])


def test_a_run_is_reported_from_its_results_file(
    encoded_run: tuple[Path, Config], tmp_path: Path
) -> None:
    run, config = encoded_run
    write_json(tmp_path / "results.json", RESULTS)
    questions = tmp_path / "questions.jsonl"
    line = {"id": "q", "question": "Where was Anna born?", "answers": ["Oslo"]}
    questions.write_text(json.dumps(line))
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    report = make_report(
        run,
        config,
        results_dir=tmp_path,
        questions_path=questions,
        picture=tmp_path / "report.png",
    )
    print_report(report, console)
    json.dumps(report.fields(), allow_nan=False)
    file = console.file
    assert isinstance(file, io.StringIO)
    text = file.getvalue()
    assert "10.0-15.0" in text and "Where was Anna born?" in text
    assert str(tmp_path / "report.png") in text and (tmp_path / "report.png").is_file()
