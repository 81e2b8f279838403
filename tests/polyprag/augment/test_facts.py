"""Lead facts read off real kinds of sentences."""

# ruff: noqa: RUF001 - the dashes of real text

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.augment.facts import extract_facts, subject_name, tidy
from sharding.corpus.passages import Passage


def facts_of(title: str, text: str) -> dict[str, str]:
    passage = Passage(id=0, key="k", title=title, text=text)
    return {fact.kind: fact.value for fact in extract_facts(passage)}


@pytest.mark.parametrize(
    ("sentence", "place"),
    [
        ("X (1839–1904), artist, was born in New York City on April 30, 1839.", "New York City"),
        ("X (born in Turin August 22, 1845 – 1885) was an Italian painter.", "Turin"),
        (
            "X was a chemist. He was born in St. Stephen, New Brunswick.",
            "St. Stephen, New Brunswick",
        ),
        ("X was a chemist. He was born in Washington, D.C., and lived there.", "Washington"),
        (
            "X (born in Kingston, New Hampshire, April 22, 1739) was a judge.",
            "Kingston, New Hampshire",
        ),
        ("X was a chemist. He was born in April 1850.", None),
    ],
)
def test_a_birthplace_is_a_place_and_no_date(sentence: str, place: str | None) -> None:
    assert facts_of("X", sentence).get("born_place") == place


def test_a_city_is_in_no_adjective() -> None:
    text = "Eindhoven is a city and municipality in the Dutch province of North Brabant."
    assert "located" not in facts_of("Eindhoven", text)
    assert facts_of("Linz", "Linz is a city in Austria.")["located"] == "Austria"


@pytest.mark.parametrize(
    ("title", "text", "expected"),
    [
        (
            "Jeff Fabry",
            "Jeff Fabry (born April 14, 1973 in Hanford, California) is an American amputee and "
            "Paralympic archer. He won bronze medals.",
            {
                "born_place": "Hanford, California",
                "born_date": "April 14, 1973",
                "nationality": "American",
                "occupation": "Paralympic archer",
            },
        ),
        (
            "Johann Gregor Memhardt",
            "Johann Gregor Memhardt or Memhard (1607 in Linz an der Donau – 1678 in Berlin) was a "
            "master builder, architect and politician.",
            {
                "born_place": "Linz an der Donau",
                "occupation": "master builder",
                "occupations": "master builder, architect and politician",
                "born_date": "1607",
                "died_date": "1678",
                "died_place": "Berlin",
            },
        ),
        (
            "Dallas M. Fitzgerald",
            "Dallas M. Fitzgerald (August 13, 1876 - May 9, 1940) was an American motion picture "
            "director and producer, primarily in the silent era.",
            {
                "occupation": "motion picture director",
                "nationality": "American",
                "occupations": "motion picture director and producer",
                "born_date": "August 13, 1876",
                "died_date": "May 9, 1940",
            },
        ),
        (
            "Paul Lieber",
            "Paul Lieber is an American film, television and theatre actor.",
            {
                "occupation": "film actor",
                "nationality": "American",
                "occupations": "film actor, television actor and theatre actor",
            },
        ),
        (
            "Din Joe Crowley",
            "Denis Joseph Crowley (1945 – 19 February 2016) was an Irish Gaelic footballer who "
            "played as a midfielder for the Kerry senior team.\nBorn in Rathmore, County Kerry, "
            "Crowley was introduced to Gaelic football in his youth.",
            {
                "born_place": "Rathmore, County Kerry",
                "occupation": "Gaelic footballer",
                "nationality": "Irish",
                "born_date": "1945",
                "died_date": "19 February 2016",
                "team": "Kerry",
                "position": "midfielder",
            },
        ),
        (
            "Thru Different Eyes",
            "Thru Different Eyes is a 1942 American drama film directed by Thomas Z. Loring and "
            "written by Samuel G. Engel. The film stars Frank Craven, Mary Howard and June Walker.",
            {
                "director": "Thomas Z. Loring",
                "year": "1942",
                "work_country": "American",
                "starring": "Frank Craven",
                "writer": "Samuel G. Engel",
                "description": "1942 American drama film",
            },
        ),
        (
            "Nils Olaf Chrisander",
            "Nils Olaf Chrisander( born Waldemar Olaf Chrisander, 14 February 1884 – 5 June 1947) "
            "was a Swedish actor and film director.",
            {
                "occupation": "actor",
                "nationality": "Swedish",
                "occupations": "actor and film director",
                "born_date": "14 February 1884",
                "died_date": "5 June 1947",
            },
        ),
        ("Nothing", "", {}),
        ("Silence", "Quiet reigns.", {}),
    ],
)
def test_lead_facts(title: str, text: str, expected: dict[str, str]) -> None:
    assert facts_of(title, text) == expected


def test_every_answer_is_worded_as_in_the_passage() -> None:
    text = "Hans Voigt (born Dresden, East Germany, 7 June 1962) is a German Lutheran bishop."
    for kind, value in facts_of("Hans Voigt", text).items():
        assert value in text, kind


def test_subject_is_the_title_without_its_disambiguation() -> None:
    assert subject_name("Joe English (loyalist)") == "Joe English"
    assert subject_name("(Romance) in the Digital Age") == "(Romance) in the Digital Age"


def test_tidy_mends_spaces_at_brackets_and_hyphens() -> None:
    assert tidy("Lai Pak- hoi( 1889–1950)\n was") == "Lai Pak-hoi (1889–1950) was"


_PIECES = st.sampled_from(
    [
        "(",
        ")",
        ".",
        ",",
        "born",
        "died",
        "is",
        "a",
        "was",
        "an",
        "Oslo",
        "1901",
        "film",
        "directed",
        "by",
        "founded",
        "located",
        "in",
        "who",
        "–",
        "'s",
        "É",
        "a-b",
        "U.S.",
        "\n",
    ]
)


@given(st.lists(_PIECES, max_size=30).map(" ".join) | st.text(max_size=80), st.text(max_size=20))
def test_any_text_and_title_are_read_without_failing(text: str, title: str) -> None:
    facts = extract_facts(Passage(id=0, key="k", title=title, text=text))
    assert len({fact.kind for fact in facts}) == len(facts)
    assert all(1 <= len(fact.value) <= 90 for fact in facts)


def test_a_text_all_in_brackets_has_no_lead_and_no_facts() -> None:
    assert extract_facts(Passage(id=0, key="k", title="T", text="(see the list.)")) == []


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("Tray", "Tray is a turned over lid with a red mark. It was made by a man who is a baker."),
        ("Switch", "The switch is a lever, which the keeper holds. He was born in Oslo."),
        ("Archive", "Archive is a folder. Its keeper, who was appointed in May, is Ann Lee."),
        ("Lumet", "Lumet is a portable speaker and a text editor."),
        ("Rota", "Rota is a checklist and a planner."),
    ],
)
def test_things_have_no_profession_and_no_birthplace(title: str, text: str) -> None:
    assert not facts_of(title, text).keys() & {"occupation", "occupations", "born_place"}


@pytest.mark.parametrize(
    ("text", "job"),
    [
        ("Ada Lund was a chemist and one of the founders.", "chemist"),
        ("Ada Lund is an immigrant, farmer and politician.", "farmer"),
        ("Ada Lund was an umbrella maker. She died in 1999.", "umbrella maker"),
        ("Ada Lund is a spokeswoman noted for her speeches.", "spokeswoman"),
        ("Ada Lund (born 1950) is a popular Soviet and Russian actress.", "Russian actress"),
    ],
)
def test_a_profession_is_one(text: str, job: str) -> None:
    assert facts_of("Ada Lund", text)["occupation"] == job


def test_what_is_said_of_another_subject_is_no_lead_fact() -> None:
    text = "Kite is a club. Aurora Bikes was founded in 1990. Its owner was born in Bergen."
    assert facts_of("Kite", text) == {"description": "club"}
    text = "Ada Lund is a painter. Her father was born in Bergen. Bob Ray studied at Oxford."
    assert facts_of("Ada Lund", text) == {"occupation": "painter"}
    text = (
        "Ada Lund is a painter. Of noted parents, Lund was born in Bergen. She studied at Oxford."
    )
    assert facts_of("Ada Lund", text) == {
        "occupation": "painter",
        "born_place": "Bergen",
        "studied": "Oxford",
    }
    text = "Athens is a city. In 1900 it grew. Athens was founded in 1856."
    assert facts_of("Athens, Texas", text)["founded"] == "1856"
