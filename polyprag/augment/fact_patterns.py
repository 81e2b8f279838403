"""The patterns of encyclopaedic lead sentences: dates, places, names, and what verbs tie them to.

Used by `polyprag.augment.facts`, which says in which order they are tried.
"""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
DATE = (
    rf"(?:\d{{1,2}} (?:{MONTHS}),? \d{{3,4}}|(?:{MONTHS}) \d{{1,2}}, ?\d{{4}}"
    rf"|(?:{MONTHS}) \d{{4}}|\d{{4}})"
)
# A capitalised place: "Durant, Iowa", "Saint Philip, Barbados", "Linz an der Donau".
CAP = r"(?:[A-Z]\.|St\.|Jr\.|[A-ZÀ-ÞĀ-Ž][\w'’\-]*)"
LINK = (
    r"(?:de|del|della|di|da|do|dos|la|le|las|los|der|den|an|am|of|the|upon|on|sur|en|al|el|y|und"
    r"|im|in der)"
)
NAME = rf"{CAP}(?: (?:{LINK} )*{CAP})*"
PLACE = rf"{NAME}(?:, {NAME}){{0,3}}"

NATIONALITIES = (
    "Afghan, Albanian, Algerian, American, Andorran, Angolan, Argentine, Argentinian, "
    "Argentinean, Armenian, Australian, Austrian, Azerbaijani, Bahraini, Bangladeshi, "
    "Barbadian, Bavarian, Belarusian, Belgian, Bengali, Bolivian, Bosnian, Brazilian, British, "
    "Bulgarian, Burmese, Byzantine, Cambodian, Cameroonian, Canadian, Catalan, Chilean, "
    "Chinese, Colombian, Congolese, Cornish, Costa Rican, Croatian, Cuban, Cypriot, Czech, "
    "Czechoslovak, Danish, Dominican, Dutch, Ecuadorian, Egyptian, English, Estonian, "
    "Ethiopian, Faroese, Fijian, Filipino, Finnish, Flemish, French, Galician, Georgian, "
    "German, Ghanaian, Greek, Guatemalan, Haitian, Honduran, Hungarian, Icelandic, Indian, "
    "Indonesian, Iranian, Iraqi, Irish, Israeli, Italian, Ivorian, Jamaican, Japanese, "
    "Jordanian, Kazakh, Kazakhstani, Kenyan, Korean, Kosovar, Kuwaiti, Kyrgyzstani, Latvian, "
    "Lebanese, Liberian, Libyan, Lithuanian, Luxembourgish, Macedonian, Malaysian, Malian, "
    "Maltese, Manx, Mexican, Moldovan, Mongolian, Montenegrin, Moroccan, Mozambican, Namibian, "
    "Nepalese, Nepali, New Zealand, Nicaraguan, Nigerian, Northern Irish, Norwegian, Ottoman, "
    "Pakistani, Palestinian, Panamanian, Paraguayan, Persian, Peruvian, Polish, Portuguese, "
    "Prussian, Puerto Rican, Qatari, Romanian, Roman, Russian, Rwandan, Salvadoran, Samoan, "
    "Saudi Arabian, Saudi, Scottish, Senegalese, Serbian, Sierra Leonean, Singaporean, Slovak, "
    "Slovene, Slovenian, Somali, South African, South Korean, North Korean, Soviet, Spanish, "
    "Sri Lankan, Sudanese, Swedish, Swiss, Syrian, Taiwanese, Tamil, Tanzanian, Thai, Tibetan, "
    "Tongan, Trinidadian, Tunisian, Turkish, Ugandan, Ukrainian, Uruguayan, Uzbek, Uzbekistani, "
    "Venezuelan, Venetian, Vietnamese, Welsh, West Indian, Yugoslav, Zambian, Zimbabwean"
)
NATIONALITY = rf"(?:{'|'.join(NATIONALITIES.split(', '))})"
LEADING_NATIONALITY = re.compile(
    rf"^(?:{NATIONALITY}|[A-Z]\w+)-born {NATIONALITY}(?:[- ]{NATIONALITY})*\b"
    rf"|^(?!American football){NATIONALITY}(?:(?:-| and |/| ){NATIONALITY})*\b"
)

LEAD_VERB = re.compile(
    r"\b(?:is|was|are|were) (?:an?|the|one of the)(?: (?:former|retired|late))* ", re.I
)
PREDICATE_END = re.compile(
    r"[.;:()\"]| (?:who|which|that|whose|best known|known|born|notable|famous|from|in the|of the|of"
    r"|for|by|with|in|at|on|to|based|active|during|currently|playing|directed|written|starring|produced"
    r"|released|located|as|under)\b"
    r"| and (?:is|was|he|she|the|an?|one|who|member|current|former)\b"
)
LIST_SPLIT = re.compile(r", and |,| and | & |/")
FORMER = re.compile(
    r"^(?:(?:former|retired|late|professional|noted|prominent|famous|award-winning|"
    r"male|female|well-known|well known|internationally known|leading|influential|renowned|"
    r"celebrated|amateur|current|"
    r"an?|the|also) )+",
    re.I,
)
FILM = re.compile(
    r"\b(film|movie|short|documentary|comedy|drama|thriller|western|musical|serial|melodrama)\b",
    re.I,
)
WORK_YEAR = re.compile(r"\b(1[89]\d\d|20[012]\d)\b")
PERSON_NAMES = rf"{CAP}(?: (?:(?:de|von|van|del|di|da|la|le|ter|der|al|bin|ibn|el) )*{CAP})*"
PEOPLE = rf"{PERSON_NAMES}(?: and {PERSON_NAMES})?"

BORN_PLACE = (
    re.compile(
        rf"\b(?:born|Born)(?: and raised| and brought up| and died)?(?: on)?,?(?: {DATE},?)?"
        rf"(?: to [a-z ]+?)? (?:in|at|near) (?:the (?:city|town|village|rural area) of )?({PLACE})"
    ),
    re.compile(rf"\bborn (?:on )?{DATE} ?,? (?!in )({PLACE})"),
    re.compile(rf"\bborn ({NAME}, {PLACE}), {DATE}"),
    re.compile(rf"\bborn [\w ]+, {DATE} in ({PLACE})"),
    re.compile(rf"\(\s*(?:c\. )?{DATE},? (?:in )?({PLACE})\s*[–—,-]"),
    re.compile(rf"\(\s*({PLACE}),? (?:c\. )?{DATE}\s*[–—-]"),
)
ORIGIN = (
    re.compile(rf"\b(?:a|the) native of (?:the )?({PLACE})"),
    re.compile(rf"\bfrom ({PLACE})"),
)
DIED_PLACE = (
    re.compile(rf"\bdied (?:on |in )?(?:{DATE},? )?(?:in|at) ({PLACE})"),
    re.compile(rf"[–—-] ?(?:c\. )?{DATE},? (?:in )?({PLACE})\s*\)"),
)
BORN_DATE = (
    re.compile(rf"\b[Bb]orn(?: on| in)?(?: c\.)? ({DATE})"),
    re.compile(rf"[(;,]\s*(?:c\. )?({DATE})[^()–—]{{0,40}}\s*[–—-]+ ?"),
    re.compile(rf"\b[Bb]orn (?:[A-Z][\w' -]*[;,] |(?:in|at) {PLACE},? )(?:on |in )?({DATE})"),
)
DIED_DATE = (
    re.compile(rf"[–—-]+ ?(?:c\. ?)?({DATE})[^()]{{0,40}}\)"),
    re.compile(rf"[–—-]+ ?{PLACE},? ({DATE})\s*\)"),
    re.compile(rf"\bdied(?: on| in)?(?: c\.)? ({DATE})"),
    re.compile(rf"\(\s*d\.? ({DATE})"),
)
DIRECTOR = re.compile(
    rf"\b[Dd]irect(?:ed|or|ion)(?:,? (?:and )?(?:co-)?(?:written|produced|edited|shot))*,?"
    rf" by ({PEOPLE})"
)
DIRECTOR_VARIANT = re.compile(rf"\b(?:written|produced),? (?:and|&) directed by ({PEOPLE})")
STARRING = re.compile(rf"\b(?:starring|stars|starred|featuring) ({PERSON_NAMES})")
WRITER = re.compile(rf"\bwritten by ({PEOPLE})")
LOCATED = re.compile(
    rf"\b(?:located|situated|based|headquartered|lies|village|town|city|municipality|commune|settlement|"
    rf"district|suburb|county|river|mountain|lake|school|university|college|station|church|hotel)"
    rf"(?: [a-z]+){{0,4}}? (?:in|on|near) (?:the )?(?:[a-z\-]+ (?:of|in) )?(?:the )?({PLACE})"
)
FOUNDED = re.compile(
    r"\b(?:founded|established|opened|built|formed|incorporated|launched|created)"
    rf"(?: [a-z]+){{0,2}} (?:in|on) ({DATE})"
)
PLAYS_FOR = re.compile(
    rf"\b(?:plays|played|playing|pitched|appeared) (?:[a-z\- ]+? )?for (?:the )?({NAME})"
)
POSITION = re.compile(r"\b(?:plays|played|playing) as an? ([a-z\- ]+?)(?: for| in|[.,;])")
STUDIED = re.compile(
    r"\b(?:studied|educated|graduated|attended|degree)(?: [a-z]+){0,4}?"
    rf" (?:at|from|the)? ?(?:the )?({NAME})"
)
DESCRIPTION_END = re.compile(
    r"[.;]| which\b| that\b| who\b| directed\b| written\b| starring\b| produced\b| released\b"
    r"| developed\b| and$| by$| in$| of$| for$| the$"
)
FIELDS = frozenset(
    "film,stage,television,theatre,theater,radio,tv,broadway,drum,rock,pop,jazz,folk,country,opera,"  # noqa: SIM905
    "screen,theatrical,voice,r&b,track,silent,baseball,football".split(",")
)
PERSON_WORD = re.compile(
    r"\b(?:\w+(?:er|or|ist|ian|man|woman|eur|ress)|athlete|poet|judge|saint|nun|monk|king|queen|duke|"
    r"prince|princess|bishop|general|engineer|cyclist|chef|priest|rabbi|artist|model|mayor)s?$"
)
