"""Terms and hits in many scripts, each worked out by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.encoders.lsa import LsaEncoder
from polyprag.retrieval.lexical.search import LexicalIndex
from polyprag.retrieval.parts.span import OpenSegment, Span


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        # Latin: accents, ligatures, full width, soft hyphens, the okina and other apostrophes.
        ("Dvořák's ﬁsh １２３", "dvorak s fish 123"),
        ("Wörter\u00adbuch Hawaiʻi don't U.S.", "worterbuch hawaii don t u s"),
        ("x\u030c Zoe\u0308", "x zoe"),  # a caron that no precomposed letter has
        # Cyrillic: stress isn't written, е stands for ё; й and ї are letters of their own.
        ("Москва\u0301 ёлка мой мои їх", "москва елка мой мои їх"),
        ("комп'ютер комп’ютер компʼютер", "компютер компютер компютер"),
        ("'слово' 'два'", "слово два"),
        # Greek: tonos and breathings, both sigmas.
        ("Ἀθῆναι ΟΔΟΣ οδός", "αθηναι οδοσ οδοσ"),
        # Arabic: harakat, tatweel, hamza; Persian's letters and its space of no width.
        ("مُحَمَّدٌ محمد الكتـــاب أحمد", "محمد محمد الكتاب احمد"),
        ("می‌خواهم ١٩٥٠", "ميخواهم 1950"),
        # Hebrew: points, geresh and gershayim.
        ('שָׁלוֹם שלום צה"ל צה״ל "שלום"', "שלום שלום צהל צהל שלום"),
        # Devanagari: vowel signs and virama make words; dots and ways to write n don't.
        ("दिल्ली में हिन्दी हिंदी ज़मीन १९५०", "दिल्ली में हिंदी हिंदी जमीन 1950"),
        ("ঢাকা বাংলাদেশের", "ঢাকা বাংলাদেশের"),
        ("சென்னை மதுரை", "சென்னை மதுரை"),
        ("ಅಮರಜೀವಿ", "ಅಮರಜೀವಿ"),
        ("ދިވެހި አማርኛ።ዓለም ՀԱՅ ᲥᲐᲠᲗᲣᲚᲘ", "ދިވެހި አማርኛ ዓለም հայ ქართული"),
        ("བོད་ཡིག", "བོད ཡིག"),
        # Japanese: voicing marks make words, half-width letters are the same ones.
        ("はは ばば ぱぱ", "はは ばば ぱぱ"),
        ("ﾊﾟﾊﾟ ハ\u309aハ\u309a パパ", "パパ パパ パパ"),
        ("東京タワー。猫は", "東 東京 京 京タ タワ ワー 猫 猫は"),
        ("iPhone手机 1990年", "iphone 手 手机 机 1990 年"),
        ("서울은 꽃이 물", "서울 울은 꽃 꽃이 물"),
        # Thai, Lao, Khmer, Burmese: a consonant with its vowels and tones counts as a syllable.
        ("ปลาทู ๑๒๓", "ปลา ลาทู 123"),
        ("ລາວ", "ລາວ"),
        ("ខ្ញុំ\u200bទៅ\u200bផ្ទះ", "ខ្ញុំទៅ ទៅផ្ទះ"),
        ("មន", "មន"),
        ("မြန်မာ", "မြန် န်မာ"),
        ("🙂 👍🏽 -- ...", ""),
    ],
)
def test_terms_without_a_language(text: str, terms: str) -> None:
    assert Analyzer.of_language("none").terms(text) == terms.split()


@pytest.mark.parametrize(
    ("language", "words", "others"),
    [
        ("arabic", "الكِتَابُ كتاب الكتـاب", "كلب"),
        ("catalan", "col·legi col·legis Col·legi", "collar"),
        ("english", "sailing sails SAIL", "boat"),
        ("finnish", "talossa talot", "järvi"),
        ("french", "l'école l’école écoles", "maison"),
        ("german", "Häuser Haus HÄUSER", "Hund"),
        ("greek", "Αθήνα ΑΘΗΝΑ αθηνα", "Πάτρα"),
        ("hindi", "लड़कियाँ लड़के लड़का", "शहर"),
        ("hungarian", "házban ház", "fa"),
        ("nepali", "काठमाडौँ काठमाडौंमा", "पोखरा"),
        ("persian", "کتاب‌ها کتاب كتاب", "خانه"),
        ("romanian", "orașul oraşul", "munte"),
        ("russian", "Москвы\u0301 Москва МОСКВА", "город"),
        ("serbian", "Београд Beograd", "Нови"),
        ("spanish", "casas casa", "río"),
        ("tamil", "சென்னையில் சென்னை", "மதுரை"),
        ("turkish", "İSTANBUL Istanbul istanbul", "KIRIK"),
    ],
)
def test_a_language_gives_its_stemmer_the_words_that_it_expects(
    language: str, words: str, others: str
) -> None:
    analyzer = Analyzer.of_language(language)
    (common,) = {analyzer.terms(word)[-1] for word in words.split()}
    assert common not in analyzer.terms(others)


PASSAGES = {
    "latin": ["Le château de Cõimbra est grand", "La maison de Lyon est grande"],
    "cyrillic": ["Столица этой страны Москва\u0301", "Самый большой порт страны Одесса"],
    "greek": ["Η πρωτεύουσα είναι η Αθήνα", "Το λιμάνι είναι η Πάτρα"],
    "arabic": ["عَاصِمَةُ البَلَدِ القَاهِرَةُ", "المدينة الثانية هي الإسكندرية"],
    "hebrew": ["עִיר הַבִּירָה יְרוּשָׁלַיִם", "העיר על הים היא חיפה"],
    "devanagari": ["दिल्ली एक बड़ा नगर है", "दलाली एक बुरा काम है", "दल और लाल रंग हैं"],
    "tamil": ["சென்னை ஒரு பெரிய நகரம்", "சேனை ஒரு காய்கறி", "சனி ஒரு கோள்"],
    "bengali": ["ঢাকা একটি বড় শহর", "ঢেঁকি একটি পুরনো যন্ত্র", "ঢাক একটি বাদ্য"],
    "thai": ["กรุงเทพเป็นเมืองหลวงของประเทศ", "เชียงใหม่อยู่ทางเหนือของประเทศ"],
    "chinese": ["北京是这个国家的首都", "上海是这个国家的港口"],
    "japanese": ["ばばはやまへいく", "ははがうみにいる", "ぱぱがまちにいる"],
    "korean": ["서울은 이 나라의 수도이다", "부산은 이 나라의 항구이다"],
    "khmer": ["ភ្នំពេញជារាជធានី", "បាត់ដំបងជាខេត្ត"],
    "burmese": ["ရန်ကုန်သည်မြို့ကြီးဖြစ်သည်", "မန္တလေးသည်ရှေးမြို့ဖြစ်သည်"],
    "lao": ["ວຽງຈັນເປັນນະຄອນຫຼວງ", "ປາກເຊເປັນເມືອງ"],
    "tibetan": ["ལྷ་ས་ནི་གྲོང་ཁྱེར་རེད", "གཞིས་རྩེ་ནི་ས་གནས་རེད"],
}
QUESTIONS = [
    ("latin", "COIMBRA?", [0]),
    ("latin", "château", [0]),
    ("cyrillic", "Где Москва?", [0]),
    ("greek", "ΑΘΗΝΑ", [0]),
    ("arabic", "القاهرة", [0]),
    ("hebrew", "ירושלים", [0]),
    ("devanagari", "दिल्ली कहाँ?", [0]),
    ("tamil", "சென்னை எங்கே?", [0]),
    ("bengali", "ঢাকা কোথায়?", [0]),
    ("thai", "กรุงเทพ", [0]),
    ("chinese", "北京在哪里？", [0]),
    ("japanese", "ばば？", [0]),
    ("japanese", "はは？", [1]),
    ("japanese", "ぱぱ？", [2]),
    ("korean", "서울에서", [0]),
    ("khmer", "ភ្នំពេញ", [0]),
    ("burmese", "ရန်ကုန်", [0]),
    ("lao", "ວຽງຈັນ", [0]),
    ("tibetan", "ལྷ་ས", [0, 1]),  # whose second syllable is in both
]


@pytest.mark.parametrize(("script", "question", "found"), QUESTIONS)
def test_bm25_finds_the_passages_that_have_the_word_and_no_others(
    tmp_path: Path,
    write_bm25_parts: Callable[..., list[Path]],
    script: str,
    question: str,
    found: list[int],
) -> None:
    passages = [("", text) for text in PASSAGES[script]]
    segment = OpenSegment(Span(0, len(passages)), np.zeros(0, np.int64))
    index = LexicalIndex.open([write_bm25_parts(tmp_path, passages)], [segment])
    (ranking,) = index.search([question], k=3).rankings()
    assert ranking.ids.tolist() == found


@pytest.mark.parametrize(("script", "question", "found"), QUESTIONS)
def test_lsa_places_the_question_nearest_to_the_passage_that_has_the_word(
    script: str, question: str, found: list[int]
) -> None:
    analyzer = Analyzer.of_language("english")
    encoder = LsaEncoder.fit(PASSAGES[script], dims=16, sketch=0.5, analyzer=analyzer)
    near = (encoder.encode(PASSAGES[script]) @ encoder.encode([question]).T).ravel()
    assert int(near.argmax()) == found[0]


def test_an_index_of_version_1_is_searched_by_the_rules_that_it_was_built_with() -> None:
    settings = {"stopwords": ["the"], "stemmer": "english"}  # as version 1 saved them
    analyzer = Analyzer.from_settings(settings, where="here")
    assert analyzer.settings == settings
    assert analyzer.terms("the दिल्ली sails") == ["द", "ल", "ल", "sail"]
    assert Analyzer.of_language("english").settings["version"] == 2
