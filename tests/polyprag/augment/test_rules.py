"""Augmentation by rules: deterministic, from the passage alone, and never in a held-out wording."""

import re

import pytest

from polyprag.augment.phrasings import PHRASINGS
from polyprag.augment.rules import augment, held_out_questions, write_all
from polyprag.augment.writing.avoided import Avoided
from sharding.corpus.passages import Augmentation, Passage

PASSAGE = Passage(
    id=3,
    key="fabry",
    title="Jeff Fabry (archer)",
    text="Jeff Fabry (born April 14, 1973 in Hanford, California) is an American archer.",
)

PASSAGE_OF_SAME_KEY = Passage(id=4, key="k", title=PASSAGE.title, text=PASSAGE.text)


def test_same_passage_and_seed_give_the_same_augmentation() -> None:
    again = Passage(id=99, key=PASSAGE.key, title=PASSAGE.title, text=PASSAGE.text)
    assert augment(PASSAGE, num_qas=5, seed=1) == augment(again, num_qas=5, seed=1)
    assert augment(PASSAGE, num_qas=5, seed=1) != augment(PASSAGE, num_qas=5, seed=2)


def test_each_fact_is_asked_once_before_any_is_asked_twice() -> None:
    qas = augment(PASSAGE, num_qas=9).qas
    answers = [qa.answer for qa in qas]
    assert sorted(answers[:4]) == ["American", "April 14, 1973", "Hanford, California", "archer"]
    assert sorted(answers[4:]) == sorted([*answers[:4], "an American archer"])  # the sentence's own
    assert len({qa.question for qa in qas}) == 9
    for qa in qas:
        assert "Jeff Fabry" in qa.question
        assert "(archer)" not in qa.question
        assert qa.answer in qa.full_answer


def test_no_lead_fact_is_asked_for_thrice_before_every_sentence_is_once() -> None:
    text = " ".join([PASSAGE.text, "Fabry trains in Lemoore on Mondays.",
        "The club has 40 members in Lemoore.", "The trip takes two weeks."])  # fmt: skip
    qas = augment(Passage(0, "k", PASSAGE.title, text), num_qas=100).qas
    prose = ["Fabry trains in Lemoore on Mondays.", "The trip takes two weeks."]
    lead = ["American", "April 14, 1973", "Hanford, California", "archer"]
    first = {sentence: [qa.full_answer for qa in qas].index(sentence) for sentence in prose}
    for fact in lead:
        asked = [at for at, qa in enumerate(qas) if qa.answer == fact]
        assert asked[0] < 4  # before any sentence
        assert asked[2] > max(first.values())
    assert max(first.values()) < 4 + 2 * len(prose) + 2
    assert [qa.answer for qa in qas].count("Mondays") > 1  # further wordings, after all that


def test_a_question_has_one_answer() -> None:
    text = "The kite costs 5 EUR. The kite costs 9 EUR. Kite is a club. Kite is a shop in Oslo."
    qas = augment(Passage(0, "k", "Kite", f"Kite is a toy in Bergen. {text}"), num_qas=100).qas
    questions = [qa.question.casefold() for qa in qas]
    assert len(questions) == len(set(questions)) > 3
    prices = {qa.answer for qa in qas if "does the kite cost" in qa.question}
    assert prices == {"5 EUR"}


@pytest.mark.parametrize(
    ("described", "stated"),
    [
        ("umbrella stand", "an umbrella stand"),
        ("one-way street", "a one-way street"),
        ("European road", "a European road"),
        ("university town", "a university town"),
        ("hourly bus", "an hourly bus"),
        ("useful tool", "a useful tool"),
        ("LED lamp", "an LED lamp"),
        ("NATO base", "a NATO base"),
    ],
)
def test_a_and_an_are_as_spoken(described: str, stated: str) -> None:
    passage = Passage(0, "k", "Kite", f"Kite is a {described}.")
    rewrites = augment(passage, num_rewrites=5).rewrites
    assert all(stated in rewrite for rewrite in rewrites) and rewrites


def test_numbers_of_rewrites_and_questions_are_kept() -> None:
    made = augment(PASSAGE, num_rewrites=2, num_qas=3)
    assert (len(made.rewrites), len(made.qas)) == (2, 3)
    for rewrite in made.rewrites:
        assert "Hanford, California" in rewrite
        assert (
            "an American" in rewrite or "is American" in rewrite or "Fabry is American" in rewrite
        )
    assert augment(PASSAGE, num_rewrites=0, num_qas=0).qas == ()


def test_a_passage_without_facts_gets_nothing() -> None:
    bare = Passage(id=0, key="x", title="X", text="Quiet reigns.")
    made = augment(bare)
    assert (made.rewrites, made.qas) == ((), ())
    assert held_out_questions(bare) == []


def test_what_is_left_of_the_questions_goes_to_what_the_text_says() -> None:
    text = PASSAGE.text + " Fabry trains in Lemoore on Mondays."
    passage = Passage(id=0, key="k", title=PASSAGE.title, text=text)
    assert augment(passage, num_qas=4) == augment(PASSAGE_OF_SAME_KEY, num_qas=4)
    more = [qa for qa in augment(passage, num_qas=100).qas if qa.answer == "Mondays"]
    assert "When does Jeff Fabry train in Lemoore?" in [qa.question for qa in more]
    assert all(qa.full_answer == "Fabry trains in Lemoore on Mondays." for qa in more)


@pytest.mark.parametrize("title", ["Guide > Benchmarks", "Benchmarks: the figures", "Benchmarks"])
def test_lead_facts_are_asked_only_of_what_the_title_names(title: str) -> None:
    """A document's part isn't a person: "By what profession is Benchmarks known?"."""
    text = "The scripts print what they measured. One is a script for planners, founded in 1999."
    passage = Passage(id=0, key="k", title=title, text=text)
    made = augment(passage, num_rewrites=1, num_qas=20)
    assert not any(re.search("profession|[Ww]as .*founded", qa.question) for qa in made.qas)
    assert made.rewrites == ()
    assert held_out_questions(passage) == []


def test_held_out_wordings_are_never_trained_on() -> None:
    for kind, phrasing in PHRASINGS.items():
        trained = {question.casefold() for question in phrasing.questions}
        held_out = {question.casefold() for question in phrasing.held_out}
        assert len(held_out) >= 2, kind
        assert not trained & held_out, kind
    trained_questions = {qa.question for qa in augment(PASSAGE, num_qas=100).qas}
    asked = {question.question for question in held_out_questions(PASSAGE)}
    assert not trained_questions & asked


def test_popqa_templates_are_held_out() -> None:
    assert "In what city was {x} born?" in PHRASINGS["born_place"].held_out
    assert "What is {x}'s occupation?" in PHRASINGS["occupation"].held_out
    everything = {q for p in PHRASINGS.values() for q in p.questions}
    assert "In what city was {x} born?" not in everything
    assert "What is {x}'s occupation?" not in everything


@pytest.mark.parametrize(
    ("title", "text", "subject"),
    [
        ("", "Aurora Bikes was founded in 1999 in Utrecht.", "Aurora Bikes"),
        ("  ", "The Aurora Mill is a windmill that was built in 1799.", "Aurora Mill"),
        ("Handbook > About us", "Aurora Bikes was founded in 1999 in Utrecht.", "Aurora Bikes"),
        ("Handbook > The mill", "It was built in 1799.", None),  # the mill, or what was said before
        ("The Mill", "It was built in 1799.", "The Mill"),
        ("", "It was founded in 1999.", None),
        ("...", "This firm was founded in 1999.", None),
    ],
)
def test_no_question_is_without_its_subject(title: str, text: str, subject: str | None) -> None:
    passage = Passage(id=0, key="k", title=title, text=text)
    written = augment(passage, num_rewrites=2, num_qas=9)
    questions = [qa.question for qa in written.qas if qa.answer != subject]
    questions += [held.question for held in held_out_questions(passage)]
    assert bool(questions) == (subject is not None)
    assert all(subject in question for question in questions if subject)
    assert all(subject in rewrite for rewrite in written.rewrites if subject)
    assert not any("  " in question or " ?" in question for question in questions)


def test_questions_of_an_evaluation_are_left_out() -> None:
    passage = Passage(id=0, key="k", title="Aurora", text="Aurora was founded in 1999.")
    made = augment(passage, num_rewrites=1, num_qas=9)
    avoided = Avoided.of([made.qas[0].question])
    ((at, written),) = write_all([passage], num_rewrites=1, num_qas=9, avoided=avoided)
    assert at == 0 and written.augmentation == Augmentation(made.rewrites, made.qas[1:])
    assert [each.reason for each in written.dropped] == ["evaluation overlap"]


def test_a_title_that_says_more_than_a_name_has_no_lead() -> None:
    text = "Port Ardel is a harbour town that was founded in 1792."
    made = augment(Passage(0, "k", "Three days in Port Ardel", text), num_rewrites=1, num_qas=20)
    assert made.rewrites == () and made.qas
    assert not any("was Three days" in qa.question for qa in made.qas)


def test_answers_of_prose_are_whole() -> None:
    text = "The café opens at 7:45 and serves soup until 2 p.m. on weekdays. Soup costs £3.75."
    answers = {qa.answer for qa in augment(Passage(0, "k", "Site > Café", text), num_qas=30).qas}
    assert {"7:45", "2 p.m.", "£3.75"} <= answers
    assert not answers & {"2 p.m", "7", "45", "3.75", "£3"}
