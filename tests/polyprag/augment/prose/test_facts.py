"""What the rules ask about a passage of prose: right answers, whole sentences, named subjects."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.augment.prose.facts import prose_facts
from sharding.corpus.passages import Passage


def asked(text: str, title: str = "Lumo > Care") -> dict[str, str]:
    """The questions of a passage in all wordings, with their answers."""
    facts = prose_facts(Passage(id=0, key="k", title=title, text=text))
    return {question: fact.answer for fact in facts for question in fact.questions}


IN_LUMO = 'According to "Lumo", '


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        ("The battery lasts 14 hours.", "how long does the battery last?", "14 hours"),
        ("A full charge takes 4 hours.", "how long does a full charge take?", "4 hours"),
        ("Spare batteries cost €389.", "how much do spare batteries cost?", "€389"),
        ("The prize money is £500.", "how much is the prize money?", "£500"),
        ("The form is due on 5 May.", "when is the form due?", "5 May"),
        ("The museum opens at 8:30.", "at what time does the museum open?", "8:30"),
        (
            "The canteen is open from 9:00 to 10:00.",
            "when is the canteen open?",
            "from 9:00 to 10:00",
        ),
        (
            "Paper is collected every second Thursday.",
            "how often is paper collected?",
            "every second Thursday",
        ),
        (
            "Employees may work abroad for up to 30 days.",
            "for how long may employees work abroad?",
            "up to 30 days",
        ),
        ("The memory holds 600 readings.", "how many readings does the memory hold?", "600"),
        ("The water should be at least 2 m deep.", "how deep should the water be?", "at least 2 m"),
        ("The speed limit is 10 km/h.", "what is the speed limit?", "10 km/h"),
        (
            "The box contains a charger, a cable and a manual.",
            "what does the box contain?",
            "a charger, a cable and a manual",
        ),
        (
            "The data protection officer is Anselm Wroe.",
            "who is the data protection officer?",
            "Anselm Wroe",
        ),
        ("Maria Lund, the head of travel, signs it.", "who is the head of travel?", "Maria Lund"),
        (
            "The workshop was founded by Maria Lund.",
            "by whom was the workshop founded?",
            "Maria Lund",
        ),
        ("The server room is in the cellar.", "where is the server room?", "in the cellar"),
        (
            "Boats must be washed because the river carries silt.",
            "why must boats be washed?",
            "the river carries silt",
        ),
        ("A drum is a container for used oil.", "what is a drum?", "a container for used oil"),
        (
            "Up to five telephones can be paired.",
            "how many telephones can be paired?",
            "Up to five",
        ),
        (
            "Hold the button for two seconds.",
            "for how long should you hold the button?",
            "two seconds",
        ),
        (
            "If you cancel without a reason, the fee is kept.",
            "what happens if you cancel without a reason?",
            "the fee is kept",
        ),
        (
            "Washing machines may not be used after 21:00.",
            "after what time may washing machines not be used?",
            "21:00",
        ),
        ("In 2025, the club won the cup.", "when did the club win the cup?", "2025"),
        ("There was frost, and the canteen closed in 2019.", "when did the canteen close?", None),
    ],
)
def test_a_sentence_is_turned_into_a_question(
    sentence: str, question: str, answer: str | None
) -> None:
    found = asked(sentence)
    if answer is None:  # its subject isn't plain, so nothing is asked
        assert found == {}
    else:
        assert found.get(IN_LUMO + question) == answer, found


@pytest.mark.parametrize(
    "sentence",
    [
        "It was founded in 1999.",  # nobody knows what
        "This applies from 1 May.",
        "Her assistant is Piet Hallorann.",
        "Nobody leaves before 17:00.",
        "The lamp, which lasts ten years, is green, or so the man in the shop said.",
        "Of those, two are kept until May.",
        "Whoever comes after 12:45 gets pancakes.",
        "polyprag index runs --method=dense at 8:30.",
        "The two were closed in 1999.",
    ],
)
def test_what_isnt_plain_is_not_asked(sentence: str) -> None:
    assert asked(sentence) == {}


def test_it_means_the_subject_of_the_sentence_before() -> None:
    found = asked("The hostel has 46 beds. It was opened in 1974.")
    assert found[IN_LUMO + "when was the hostel opened?"] == "1974"
    unclear = asked("A guest may bring the hostel a cake. It was opened in 1974.")
    assert "1974" not in unclear.values()


def test_in_an_encyclopaedia_he_means_whom_the_title_names() -> None:
    text = (
        "Ada Lind was a painter. She moved to Paris in 1920. Her brother Per was rich. "
        "He died in 1950."
    )
    found = asked(text, title="Ada Lind (painter)")
    assert found["When did Ada Lind move to Paris?"] == "1920"
    assert "1950" not in found.values()  # whoever "he" is


def test_a_question_without_a_name_says_which_document_it_is_about() -> None:
    text = "The office opens at 8:30."
    assert set(asked(text, title="Riga branch > Hours")) == {
        'According to "Riga branch", at what time does the office open?',
        'According to "Riga branch", when does the office open?',
        'Under "Hours" in "Riga branch": at what time does the office open?',
        'Under "Hours" in "Riga branch": when does the office open?',
    }
    assert asked(text, title="") == {}
    assert (
        asked("The Lumo S2 weighs 17 kg.", title="")["How much does the Lumo S2 weigh?"] == "17 kg"
    )


def test_cells_of_a_table_are_asked_by_column_and_row() -> None:
    rows = (
        "Name: Kofi Blum; Role: sales director; Based in: Riga; Staff: 58.\n"
        "Name: Ada Lind; Role: cook; Based in: Oslo; Staff: 4."
    )
    found = asked(rows)
    assert found["What is the role of Kofi Blum?"] == "sales director"
    assert found['What is given as "Based in" for Ada Lind?'] == "Oslo"
    assert found[IN_LUMO + "who is the sales director?"] == "Kofi Blum"
    markdown = (
        "| Model | Price | Range |\n| --- | --- | --- |\n"
        "| S1 | €90 | 45 km |\n| S2 | €120 | 70 km |"
    )
    found = asked(markdown)
    assert found["What is the price of S2?"] == "€120"
    assert found["What is the range of S1?"] == "45 km"


def test_a_question_in_the_text_is_asked_as_it_stands() -> None:
    text = "How do I reset the display?\nPress the button for eight seconds. Then wait."
    assert (
        asked(text)[IN_LUMO + "how do I reset the display?"] == "Press the button for eight seconds"
    )
    heading = asked("Yes, at no charge. Bring it along.", title="Lumo > Can I bring my dog?")
    assert heading[IN_LUMO + "can I bring my dog?"] == "Yes, at no charge"


def test_labels_and_words_of_a_glossary_are_explained() -> None:
    found = asked("- Mobile phone: a flat rate of €18 a month\n- Note: none")
    assert found[IN_LUMO + 'what is said about "mobile phone"?'] == "a flat rate of €18 a month"
    assert not any("note" in question for question in found)
    found = asked("Red tag. A label which anybody may fasten to a machine.")
    assert found['What is meant by "Red tag"?'] == "A label which anybody may fasten to a machine"


WORDS = st.sampled_from(
    "The the A an battery lasts costs is are was has may must not 14 hours €30 on 5 May in Riga"  # noqa: SIM905
    " because if and , . ; : ( ) | it who by Maria Lund 1999 every day opens at 8:30 for up"
    " to contains ? \n - which There No one's 'quoted' \"so\" [x](y) **b** 20 % people".split(" ")
)


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(WORDS, max_size=60).map(" ".join),
    title=st.sampled_from(["", "Lumo", "Lumo > Care"]),
)
def test_whatever_the_text_answers_are_in_it_and_questions_are_whole(text: str, title: str) -> None:
    plain = " ".join(text.replace("**", "").replace("[x](y)", "x").split())
    found = prose_facts(Passage(id=0, key="k", title=title, text=text))
    questions = [question.casefold() for fact in found for question in fact.questions]
    assert len(questions) == len(set(questions))
    for fact in found:
        assert all(word in plain for word in fact.answer.split())
        assert fact.answer == fact.answer.strip() != ""
        for question in fact.questions:
            assert question.endswith("?") and "  " not in question
            assert not question.startswith(("When was it", "What is it"))


def test_long_lines_without_an_end_take_no_long_time() -> None:
    """Nothing in the patterns goes back over a line again and again: 100 kB in each shape."""
    for piece in ("[[", "(a", "a, ", "Aa Bb, who ", "A: b; ", "If a ", "| a ", "1,", "in the "):
        assert isinstance(asked(piece * (40_000 // len(piece))), dict)


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        (
            "The pump is cleaned and oiled every month.",
            "how often is the pump cleaned and oiled?",
            "every month",
        ),
        (
            "The report is written by Ann Lee and sent to the board in May.",
            "by whom is the report written?",
            "Ann Lee",
        ),
        (
            "The report is written by Ann Lee and sent to the board in May.",
            "when is the report sent to the board?",
            "May",
        ),
        ("The pump is taken apart and cleaned in May.", "when is the pump cleaned?", "May"),
        ("The pump is taken apart and cleaned in May.", "when did the pump clean?", None),
        (
            "The gate was closed and the road was opened in May 2024.",
            "when was the road opened?",
            "May 2024",
        ),
        (
            "The drum is made of steel and holds 60 litres.",
            "how many litres does the drum hold?",
            "60 litres",
        ),
    ],
)
def test_each_verb_of_a_passive_has_its_own(
    sentence: str, question: str, answer: str | None
) -> None:
    found = asked(sentence)
    assert found.get(IN_LUMO + question) == answer
    assert all(said != "May 2024" or "gate" not in each for each, said in found.items())


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (
            "The board consists of the chair, Ann Lee, the secretary, Bob Ray, and the treasurer, "
            "Eva Lund.",
            {"chair": "Ann Lee", "secretary": "Bob Ray", "treasurer": "Eva Lund"},
        ),
        (
            "Ann Lee, the mayor, Bob Ray, the captain, and Eva Lund, the cook, came.",
            {"mayor": "Ann Lee", "captain": "Bob Ray", "cook": "Eva Lund"},
        ),
    ],
)
def test_a_name_between_two_roles_belongs_to_one(sentence: str, expected: dict[str, str]) -> None:
    found = asked(sentence)
    roles = {q.split("who is the ")[1].rstrip("?"): a for q, a in found.items() if "who is" in q}
    assert roles == expected
    assert not any("consists" in question for question in found)


@pytest.mark.parametrize(
    ("sentence", "wrong"),
    [
        ("Two registered nurses sign for every dose.", "what did two register?"),
        ("The sample travels to the laboratory in Carrow.", "where does the sample travel"),
        ("The proposal was rejected by four votes to three.", "by how many votes"),
        ("The ferry takes 2 h 40 min. and costs £31.", "how many hours does the ferry"),
        ("The juniors train on Tuesdays and won the cup.", "and won the cup"),
    ],
)
def test_half_of_what_is_meant_is_not_asked(sentence: str, wrong: str) -> None:
    assert not any(wrong in question for question in asked(sentence))


def test_who_was_present_is_a_whole_list() -> None:
    names = "Ruth Pellew (chair), Dr. Priya Raman, Cllr. J. B. Okafor"
    found = asked(f"Place: Loft. Present: {names}. Apologies: Sam Dea.")
    assert found[IN_LUMO + "who was present?"] == names
    assert found[IN_LUMO + 'who is listed under "Apologies"?'] == "Sam Dea"


def test_a_name_keeps_its_capital() -> None:
    found = asked("Matthias showed the list. Write to help@lumos.example. Lumos needs 12 cables.")
    assert not any("matthias" in question or "lumos" in question for question in found)
