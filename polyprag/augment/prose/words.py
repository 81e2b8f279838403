"""The words that the rules know: verbs with their forms, and the small words around them.

There is no tagger here: a sentence is read only where its verb is one of these, which leaves most
sentences unread and gets few wrong.
"""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re

# base[/past[/participle]]; forms that are regular are left out. A "+" after the base: one can ask
# "What does X VERB?", because what follows is nearly always its object.
_VERBS = """
accept+ add+ advise agree allow+ announce+ apply appear approve+ arrive ask attract+ award+
become/became/become begin/began/begun belong bind+/bound book+ break/broke/broken bring+/brought
build+/built buy+/bought calculate+ call cancel+ carry+/carried catch+/caught cause+ change charge
check+ choose+/chose/chosen claim+ clean+ climb close collect+ combine+ come/came/come compare+
complete+ compute+ concern+ connect consist consume+ contact+ contain+ continue
control+/controlled convert+ copy+/copied correct+ cost/cost count cover+ create+ cut/cut date
decide define+ delete+ deliver+ demand+ depend describe+ design+ destroy+ develop+ die disconnect+
discover+ divide draw+/drew/drawn drive/drove/driven drop/dropped earn+ employ+ enable+ encourage+
end enter+ erase+ exceed+ exist expect+ expire explain+ face+ fail fall/fell/fallen feature+ fill+
find+/found finish fit/fitted float fly/flew/flown follow+ form+ forbid+/forbade/forbidden found+
freeze/froze/frozen gain+ gather get/got generate+ give/gave/given go/went/gone govern+ grant+
grow/grew/grown handle+ hang/hung happen have+/had head+ hear+/heard help hire+ hold+/held host+
house+ include+ increase inherit+ inspect+ install+ introduce+ invent+ invite+ irritate+ join+
keep+/kept know/knew/known lapse last launch+ lay/laid lead+/led learn/learned leave/left
lend+/lent let/let lie/lay/lain limit+ list+ live load+ lock lose+/lost maintain+ make+/made
manage+ mark+ match+ measure+ meet/met merge move name need+ obtain+ occupy+/occupied
occur/occurred offer+ open operate order+ organise+ organize+ own+ pass pay/paid perform+
permit+/permitted place plan/planned play pour prefer+/preferred prepare+ present+ press+ prevent+
print+ produce+ promise propose+ protect+ provide+ publish+ pull push put/put raise+ range reach+
read/read receive+ recommend+ record+ reduce+ refer/referred refuse register+ release+ remain
remember+ remove+ rent+ repair+ repeat+ replace+ report represent+ require+ reset/reset reserve+
restart resign respond rest return reveal+ ring/rang/rung rinse+ rise/rose/risen roll run/ran/run
save+ search see+/saw/seen seek+/sought select+ sell+/sold send+/sent separate serve set/set share
shine/shone show+/showed/shown shut/shut sign+ sit/sat sleep/slept solve+ span+/spanned
speak/spoke/spoken spend/spent split/split stand/stood start state stay stop/stopped store+
study/studied submit+/submitted succeed suffer suggest+ supply+/supplied support+ surround+
survive take/took/taken taste teach+/taught tell/told test+ total touch+ train
transfer/transferred translate travel/travelled treat+ turn type use+ value vary/varied visit+
vote wait wake walk want warn wash watch+ wear+/wore/worn weigh win+/won
withdraw+/withdrew/withdrawn work write+/wrote/written yield+
"""

AUXILIARIES = frozenset(
    "is are was were can could may might must shall should will would has have"  # noqa: SIM905
    " had".split()
)
MODALS = frozenset("can could may might must shall should will would".split())  # noqa: SIM905
SINGULAR, PLURAL, EITHER = "singular", "plural", "either"
_AUXILIARY_NUMBER = {"is": SINGULAR, "was": SINGULAR, "has": SINGULAR} | dict.fromkeys(
    ("are", "were", "have"), PLURAL
)

# Without an article at the head of a sentence, and no names there.
COMMON = frozenset(
    "breakfast lunch dinner paper glass water coffee tea food wood waste rubbish membership parking"  # noqa: SIM905
    " insurance support access entry delivery payment smoking probation turnover power rent money"
    " luggage furniture equipment software hardware data information training work travel".split()
)
IRREGULAR_PLURALS = frozenset(
    "people children men women feet teeth mice staff police data criteria"  # noqa: SIM905
    " media".split()
)
_NOT_PLURAL = re.compile(r"(?:ss|us|is|ics|news|lens|series|species)$", re.I)
PREPOSITIONS = frozenset(
    "of in on at for to from with by about under over between within without during until since"  # noqa: SIM905
    " before after"
    " through into onto against per behind beside near above below inside outside along across"
    " around"
    " upon towards toward via among opposite beyond despite except like as than".split()
)
DETERMINERS = frozenset(
    "the a an our your their its his her my every each all both some any most many"  # noqa: SIM905
    " several".split()
)
# A subject that has one of these in it is more than a noun phrase.
NOT_IN_SUBJECT = frozenset(
    "which who whom whose that where when while if because although though unless whether what"  # noqa: SIM905
    " how why"
    " until not never so but or than as there here nor it they he she we you i this these"
    " those".split()
)
NO_SUBJECT = frozenset(
    "there here nobody no none neither nothing few little not this that these those what"  # noqa: SIM905
    " whoever"
    " whatever which who when where while if because although though unless whether how why as"
    " so but and or"
    " nor i such both either then thus also only even just one's nearby elsewhere inside outside"
    " everything something somebody someone other"
    " others another more less much never another to let's".split()
)
PRONOUNS = frozenset("he she it they we you".split())  # noqa: SIM905
ADVERBS = frozenset(
    "also usually normally generally always often only now then still currently already mainly"  # noqa: SIM905
    " mostly"
    " typically automatically therefore later soon once originally first finally formerly today"
    " both".split()
)
NEGATIVE = re.compile(
    r"\b(?:not|never|no longer|hardly|neither|nor|nobody|nothing|no|cannot|without|\w+n['’]t"
    r"|none|nowhere)\b",
    re.I,
)
# What a question can't have without what came before it.
POINTING = re.compile(
    r"\b(?:it|they|them|he|she|him|this|these|those|that|such|here|there|latter|former|itself"
    r"|themselves|both|"
    r"the (?:two|three|other|others|same|rest|first|second|third|above|following)|so|then|too"
    r"|either|"
    r"another|other|others|former|below|above|I|me|else|instead|whose|afterwards|beforehand|one)\b",
    re.I,
)
WHO_ACT = frozenset(
    "you we employees staff managers visitors guests everyone everybody customers trainees"  # noqa: SIM905
    " members users"
    " people colleagues students applicants suppliers drivers parents teachers companies"
    " volunteers players"
    " teams workers residents passengers patients owners tenants buyers sellers authors"
    " developers".split()
)


class Verb:
    """One form of a verb.

    Attributes:
        base: its infinitive.
        do: what a question with it begins with: `do`, `does` or `did`.
        number: of the subject that the form takes.
        may_be_participle: the form may be no verb of the sentence, but belong to a noun.
        takes_object: see `_VERBS`.
    """

    __slots__ = ("base", "do", "may_be_participle", "number", "takes_object")

    def __init__(self, base: str, do: str, number: str, *, participle: bool, takes: bool) -> None:
        """See the attributes."""
        self.base, self.do, self.number = base, do, number
        self.may_be_participle, self.takes_object = participle, takes


def _third(base: str) -> str:
    if base == "have":
        return "has"
    if base in ("go", "do") or re.search(r"(?:s|x|z|ch|sh)$", base):
        return base + "es"
    if re.search(r"[^aeiou]y$", base):
        return base[:-1] + "ies"
    return base + "s"


def _past(base: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if re.search(r"[^aeiou]y$", base):
        return base[:-1] + "ied"
    return base + "ed"


def _forms() -> dict[str, Verb]:
    forms: dict[str, Verb] = {}
    for entry in _VERBS.split():
        base, *others = entry.split("/")
        takes, base = base.endswith("+"), base.rstrip("+")
        past = others[0] if others else _past(base)
        is_participle = len(others) < 2 and base != "have"
        forms.setdefault(base, Verb(base, "do", PLURAL, participle=False, takes=takes))
        if past not in forms:
            forms[past] = Verb(base, "did", EITHER, participle=is_participle, takes=takes)
        forms.setdefault(_third(base), Verb(base, "does", SINGULAR, participle=False, takes=takes))
    return forms


VERBS = _forms()
PARTICIPLES = frozenset(
    parts[2] if len(parts) > 2 else parts[1] if len(parts) > 1 else _past(parts[0])
    for entry in _VERBS.split()
    for parts in [entry.replace("+", "").split("/")]
) | {"been"}
BASES = frozenset(verb.base for verb in VERBS.values())


def number_of_auxiliary(word: str) -> str:
    """Returns which subjects an auxiliary takes."""
    return _AUXILIARY_NUMBER.get(word, EITHER)


def is_plural(word: str) -> bool:
    """Tells whether a noun looks like a plural."""
    word = word.lower()
    return word in IRREGULAR_PLURALS or (
        word.endswith("s") and len(word) > 3 and not _NOT_PLURAL.search(word)
    )
