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
    r"[.;:()\"]| (?:who|which|that|whose|best known|known|born|notable|noted|famous"
    r"|speciali[sz]ing|particularly|most (?:\w+ )?(?:associated|known|noted)|from|in the|of the|of"
    r"|for|by|with|in|at|on|to|based|active|during|currently|playing|directed|written|starring|produced"
    r"|released|located|as|under)\b"
    r"| and (?:is|was|he|she|the|an?|one|who|member|current|former)\b"
)
LIST_SPLIT = re.compile(r", and |,| and | & |/")
FORMER = re.compile(
    r"^(?:(?:former|retired|late|professional|noted|prominent|famous|award-winning|"
    r"male|female|well-known|well known|internationally known|leading|influential|renowned|"
    r"celebrated|amateur|current|"
    r"an?|the|also|and|later) )+",
    re.I,
)
FILM = re.compile(
    r"\b(film|movie|short|documentary|comedy|drama|thriller|western|musical|serial|melodrama)\b",
    re.I,
)
WORK_YEAR = re.compile(r"\b(1[89]\d\d|20[012]\d)\b")
PERSON_NAMES = rf"{CAP}(?: (?:(?:de|von|van|del|di|da|la|le|ter|der|al|bin|ibn|el) )*{CAP})*"
PEOPLE = rf"{PERSON_NAMES}(?: and {PERSON_NAMES})?"

# A sentence that begins with somebody's relative or belongings, or with a name that does something.
OF_ANOTHER = re.compile(
    rf"(?:His|Her|Its|Their) (?!name\b)[a-z]|(?:The )?"
    r"(?!(?:He|She|It|They|This|There|Born|Of|In|On|At|By|From|For|With|As|After|Before|Since"
    r"|During|Under|Until|Like|Among|Despite|Besides|Through) )"
    rf"(?P<name>{NAME}),? (?:is|was|are|were|has|had|did|(?!in\b|as\b)[a-z]+(?:ed|s)) "
)
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
# What a person may be by profession, or is known as: the last word of "British film producer".
_PERSONS = """
academic accountant actor actress adviser advisor alderman ambassador analyst announcer antiquary
apostle archbishop archer architect artisan assassin astronaut astronomer athlete attorney
auctioneer author aviator baker ballerina bandleader banker barber baritone baroness barrister
baseballer basketballer biathlete bishop boatman bobsledder bookkeeper bookseller boxer brewer
broadcaster butcher cantor carpenter catcher chancellor chef choirmaster chorister chronicler
cleric clerk collector colonel comedian comedienne commentator composer consultant contralto cook
corsair cosmonaut councillor courtesan courtier coxswain cricketer critic curate curator curler
dancer deacon dealer dean decathlete defender deputy designer detective diplomat director
discoverer doctor draughtsman drummer duchess duke educator emperor engineer engraver
entertainer entrepreneur explorer farmer fencer filmmaker financier firefighter footballer
forecaster forester gardener general goalkeeper golfer governor grammarian grandmaster gymnast
hairdresser handballer headmaster heptathlete hieromonk historian homemaker hurdler hurler
illustrator impresario innkeeper inventor janitor jeweller jockey joiner judge judoka kickboxer
king knight lawmaker lawyer lecturer librarian lieutenant lifeguard magistrate mayor mechanic
mediator mercenary merchant midfielder midwife minister missionary monk mountaineer mystic
navigator newscaster newsreader nun nurse officer ombudsman orator overseer painter pamphleteer
pastor pentathlete performer philosopher pirate planter plumber poet poetess polymath pope potter
preacher presenter president priest priestess prince princess principal printmaker privateer
proctor producer professor programmer publisher puppeteer quarterback queen rabbi racewalker
rancher rapper referee remixer reporter researcher restaurateur rower sailor saint schoolteacher
sculptor sculptress seamstress secretary senator sergeant servant sharpshooter shoemaker
shopkeeper singer skater skier slalomer snowboarder socialite softballer soldier solicitor soprano
speedskater sportscaster sprinter spy steeplechaser storyteller sultan surgeon surveyor swimmer
taikonaut tailor teacher tenor theologian thrower translator treasurer troubadour trumpeter umpire
undertaker vaulter veterinarian volleyballer warrior watchmaker weaver weightlifter winemaker
woodcarver wrestler writer
"""
# The same words are also said of things: they make nobody a person who isn't known to be one.
_PERSONS_OR_THINGS = """
administrator admiral agent aide assistant associate attendant back baron breeder builder captain
cardinal caretaker carrier champion chaplain chief coach competitor conductor contestant
controller coordinator correspondent counselor count courier creator custodian diver driver earl
editor examiner executive fellow fielder fighter figure forward founder grower guard guide head
host hunter instructor investigator jumper leader linebacker lineman maker manager marshal master
mentor model monarch noble official operator organiser organizer owner participant peer
personality pilot pioneer pitcher planner player practitioner printer professional promoter
provost racer receiver rector regent rider ruler runner scholar scout seller speaker specialist
star strategist student superintendent supervisor tackle trader trainer traveler traveller winger
worker
"""
_NO_PROFESSION = (
    r"(?!(?:(?:allow|black|check|deny|play|short|wait|white|wish)list|persist|consist)s?\b)"
)
PROFESSION = re.compile(
    rf"\b(?:{'|'.join(_PERSONS.split())}"
    rf"|{_NO_PROFESSION}[a-z]{{3,}}ist|\w+(?:ologist|ographer|wright|smith|ician|writer)"
    r"|(?:business|spokes|states|clergy|council|congress|chair|crafts|sports|police|fisher|trades"
    r"|camera|frog|noble|horse|front|show|stunt|oil|line|news|sales|swords)(?:man|woman|men|women|person"
    r"|people))e?s?$",
    re.I,
)
PROFESSION_OF_PERSON = re.compile(rf"\b(?:{'|'.join(_PERSONS_OR_THINGS.split())})s?$", re.I)
