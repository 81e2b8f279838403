"""The last look at a question and its answer: what is malformed isn't kept."""

import pytest

from polyprag.augment.writing.finished import is_balanced, is_finished, with_its_stop

SAID = "Aspirin (300 mg) costs £640,000 at 14:00 at the Ray-Lund mill, says physio@care.example."


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many) to remove anyone who shouts?", "300"),
        ('"Nil by what ": the patient may not eat?', "mill"),
        ("It is read at what time., 2 p.m. and 10 p.m.?", "14:00"),
        ("Since the winter of which year /23 there are ten?", "2022"),
        ("It is 8 °C there. If the fridge is warmer, who is told?", "physio"),
        ("Write to what.example?", "physio"),
        ("What, Hans Lund (finance)?", "Aspirin"),
        ("A machine of their own, which what?", "Aspirin"),
        ("Aspirin costs how much at 14:00?", "£640"),
        ("Aspirin costs how much at 14:00?", "640,000"),
        ("Aspirin is given at what time?", "00"),
        ("Aspirin is given at the what mill?", "Ray"),
        ("Whom does one ask?", "physio@care"),
        ("What does he say?", "of the"),
        ("Why is it given?", "because of the"),
        ("How many grams are there?", "Aspirin"),
        ("In which year was the mill closed?", "3 June 1987"),
        ("On which date was the mill closed?", "1987"),
        ("At what time is it?", "Aspirin"),
        ("Who is at the mill?", "14:00"),
        ("What is Aspirin?", "Aspirin"),
    ],
)
def test_what_is_malformed_is_dropped(question: str, answer: str) -> None:
    assert not is_finished(question, answer, SAID)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How much does Aspirin cost?", "£640,000"),
        ("Aspirin (how many milligrams) costs £640,000?", "300 mg"),
        ("At what time does Aspirin cost £640,000?", "14:00"),
        ("Who says so?", "physio@care.example"),
        ('Under "2. Costs" in "Dr. No. A guide": how much does Aspirin cost?', "£640,000"),
    ],
)
def test_what_is_whole_is_kept(question: str, answer: str) -> None:
    assert is_finished(question, answer, SAID)


def test_what_a_question_is_about_may_have_a_full_stop() -> None:
    asked = "2. Costs: how much does Aspirin cost?"
    assert not is_finished(f"Mrs. Ray. {asked}", "£640,000", SAID)
    assert is_finished(f"Mrs. Ray. 2. X: {asked[10:]}", "£640,000", SAID, about=("Mrs. Ray. 2. X",))


def test_brackets_and_quotation_marks_have_another_half_each() -> None:
    assert all(map(is_balanced, ("a (b [c]) d", "“a” «b»", '"a" b', "it's 5' long")))
    assert not any(map(is_balanced, ("a) (b", "(a", "a ]", '"a', "“a", "(a [b) c]")))


def test_an_answer_has_the_stop_of_its_last_word() -> None:
    assert with_its_stop("until 2 p.m", "It serves soup until 2 p.m. and closes.") == "until 2 p.m."
    assert with_its_stop("the mill", "He saw the mill.") == "the mill"
