"""How each kind of lead fact is asked for and stated: wordings to train on, and others held out.

The held-out wordings are used by no training example, neither of the encoding nor of the base model
in examples/tiny-base; they measure whether a fact was learned rather than a sentence.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrasing:
    """Wordings for one kind of fact, with `{x}` for the subject and `{v}` for the value."""

    questions: tuple[str, ...]
    held_out: tuple[str, ...]
    statements: tuple[str, ...]


PHRASINGS: dict[str, Phrasing] = {
    "born_place": Phrasing(
        (
            "Where was {x} born?",
            "What is the birthplace of {x}?",
            "What is {x}'s place of birth?",
            "In which place was {x} born?",
            "Where does {x} come from?",
            "What is the name of the place where {x} was born?",
            "In which city was {x} born?",
            "What city was {x} born in?",
            "In which town was {x} born?",
            "What town was the birthplace of {x}?",
        ),
        ("In what city was {x} born?", "Which town or city is {x}'s birthplace?"),
        ("{x} was born in {v}.", "The birthplace of {x} is {v}.", "{x} comes from {v}."),
    ),
    "origin": Phrasing(
        (
            "Where is {x} from?",
            "From which place is {x}?",
            "What place does {x} come from?",
            "What is the home of {x}?",
            "What city is {x} from?",
            "Which town does {x} come from?",
        ),
        ("What is {x}'s place of origin?", "In what place does {x} have roots?"),
        ("{x} is from {v}.", "The home of {x} is {v}."),
    ),
    "occupation": Phrasing(
        (
            "What was {x}'s profession?",
            "What did {x} do for a living?",
            "What was the occupation of {x}?",
            "What does {x} work as?",
            "What is the job of {x}?",
            "By what profession is {x} known?",
        ),
        ("What is {x}'s occupation?", "Which line of work was {x} in?"),
        ("{x} worked as a {v}.", "{x} is known as a {v}.", "The profession of {x} is {v}."),
    ),
    "occupations": Phrasing(
        (
            "What are the professions of {x}?",
            "As what is {x} known?",
            "Which occupations does {x} have?",
            "What different jobs has {x} done?",
        ),
        ("Which professions did {x} follow?", "What are {x}'s occupations?"),
        ("{x} has been a {v}.", "The professions of {x} are {v}."),
    ),
    "nationality": Phrasing(
        (
            "What is {x}'s nationality?",
            "What nationality was {x}?",
            "Of what nationality is {x}?",
            "What is the nationality of {x}?",
        ),
        ("Which nationality does {x} have?", "What was the nationality of the person called {x}?"),
        ("{x} is {v}.", "The nationality of {x} is {v}."),
    ),
    "born_date": Phrasing(
        (
            "When was {x} born?",
            "What is the date of birth of {x}?",
            "On what date was {x} born?",
            "What is {x}'s birthday?",
        ),
        ("What is {x}'s date of birth?", "At what time was {x} born?"),
        ("{x} was born on {v}.", "The date of birth of {x} is {v}."),
    ),
    "died_date": Phrasing(
        (
            "When did {x} die?",
            "What is the date of death of {x}?",
            "On what date did {x} die?",
            "When was the death of {x}?",
        ),
        ("What is {x}'s date of death?", "At what time did {x} die?"),
        ("{x} died on {v}.", "The date of death of {x} is {v}."),
    ),
    "died_place": Phrasing(
        (
            "Where did {x} die?",
            "What is the place of death of {x}?",
            "In which place did {x} die?",
            "Where did the death of {x} take place?",
            "In which city did {x} die?",
            "What city did {x} die in?",
        ),
        ("In what city did {x} die?", "What is {x}'s place of death?"),
        ("{x} died in {v}.", "The place of death of {x} is {v}."),
    ),
    "team": Phrasing(
        (
            "Which team did {x} play for?",
            "For whom did {x} play?",
            "What team was {x} on?",
            "Who did {x} play for?",
        ),
        ("What is the name of {x}'s team?", "With which team did {x} play?"),
        ("{x} played for {v}.", "The team of {x} is {v}."),
    ),
    "position": Phrasing(
        (
            "What position does {x} play?",
            "In which position did {x} play?",
            "As what did {x} play?",
        ),
        ("What is {x}'s position?", "Which position did {x} play in?"),
        ("{x} plays as a {v}.", "The position of {x} is {v}."),
    ),
    "studied": Phrasing(
        (
            "Where did {x} study?",
            "Where was {x} educated?",
            "Which school did {x} attend?",
            "From where did {x} graduate?",
        ),
        ("What is the alma mater of {x}?", "At what institution did {x} study?"),
        ("{x} studied at {v}.", "{x} was educated at {v}."),
    ),
    "director": Phrasing(
        (
            "Who directed {x}?",
            "Who is the director of {x}?",
            "Who was {x} directed by?",
            "What is the name of the director of {x}?",
        ),
        ("Which director made {x}?", "Who was the director of the film {x}?"),
        ("{x} was directed by {v}.", "The director of {x} is {v}."),
    ),
    "year": Phrasing(
        (
            "When did {x} come out?",
            "In which year was {x} released?",
            "What year was {x} made?",
            "When was {x} released?",
        ),
        ("From which year is {x}?", "What is the release year of {x}?"),
        ("{x} came out in {v}.", "{x} was released in {v}."),
    ),
    "work_country": Phrasing(
        (
            "Which country is {x} from?",
            "What country does {x} come from?",
            "What is the country of origin of {x}?",
            "In which country was {x} made?",
        ),
        ("What is {x}'s country of origin?", "From which country does {x} originate?"),
        ("{x} is {v}.", "The origin of {x} is {v}."),
    ),
    "starring": Phrasing(
        (
            "Who stars in {x}?",
            "Who starred in {x}?",
            "Which actor appears in {x}?",
            "Who plays in {x}?",
        ),
        ("Who acted in {x}?", "Who is the star of {x}?"),
        ("{x} stars {v}.", "{v} plays in {x}."),
    ),
    "writer": Phrasing(
        (
            "Who wrote {x}?",
            "Who is the writer of {x}?",
            "Who was {x} written by?",
        ),
        ("Which writer wrote {x}?", "Who is the author of {x}?"),
        ("{x} was written by {v}.", "The writer of {x} is {v}."),
    ),
    "located": Phrasing(
        (
            "Where is {x}?",
            "Where is {x} located?",
            "In which place is {x} situated?",
            "What is the location of {x}?",
        ),
        ("In what place can {x} be found?", "Where can one find {x}?"),
        ("{x} is located in {v}.", "{x} lies in {v}."),
    ),
    "founded": Phrasing(
        (
            "When was {x} founded?",
            "When was {x} established?",
            "In which year did {x} begin?",
            "What is the founding date of {x}?",
        ),
        ("Since when does {x} exist?", "At what date was {x} founded?"),
        ("{x} was founded in {v}.", "{x} began in {v}."),
    ),
    "description": Phrasing(
        (
            "What is {x}?",
            "What was {x}?",
            "What does the name {x} stand for?",
            "What kind of thing is {x}?",
        ),
        ("How would you describe {x}?", "What is meant by {x}?"),
        ("{x} is a {v}.", "{x} is best described as a {v}."),
    ),
}
