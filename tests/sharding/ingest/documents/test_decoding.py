# ruff: noqa: RUF001 - texts in other alphabets are what is decoded

import codecs

import pytest

from sharding.ingest.documents.decoding import NotTextError, decode_text


@pytest.mark.parametrize(
    "data",
    [
        "é\r\nb\rc".encode(),
        codecs.BOM_UTF8 + "é\nb\nc".encode(),
        "é\nb\nc".encode("utf-16"),
        codecs.BOM_UTF16_BE + "é\nb\nc".encode("utf-16-be"),
        "é\nb\nc".encode("utf-32"),
    ],
)
def test_marks_tell_the_encoding(data: bytes) -> None:
    assert decode_text(data, file="a.txt") == "é\nb\nc"


def test_a_page_may_declare_its_encoding() -> None:
    page = '<meta charset="ISO-8859-1"><p>\xe9t\xe9 \x93x\x94'.encode("latin-1")
    assert decode_text(page, file="a.html", declares=True).endswith("été “x”")
    xml = '<?xml version="1.0" encoding="shift_jis"?><p>日本'.encode("shift_jis")
    assert decode_text(xml, file="a.html", declares=True).endswith("日本")
    wrong = "<meta charset=utf-16><p>é".encode()  # a declaration in ASCII is none of that
    assert decode_text(wrong, file="a.html", declares=True).endswith("é")


def test_nothing_is_guessed() -> None:
    text = "Die Qualität der Lampen überzeugt; größere Mängel gibt es nicht. " * 5
    with pytest.raises(
        NotTextError, match=r"byte 19 isn't UTF-8; .*CP1252.*iconv -f .* a\.txt"
    ) as told:
        decode_text(b"# Lampen\n" + text.encode("cp1252"), file="a.txt")
    assert told.value.line == 2
    with pytest.raises(NotTextError, match="character 1 is a zero"):
        decode_text(b"a\0b", file="a.txt")
    with pytest.raises(NotTextError, match="utf-16"):
        decode_text(codecs.BOM_UTF16_LE + b"a", file="a.txt")


@pytest.mark.parametrize(
    ("text", "encoding", "looks"),
    [
        ("Il a été dit que la pompe s'arrête.", "latin-1", "CP1252"),
        ("The café opens at nine.", "latin-1", "CP1252"),
        ("Ein Stück für 5 €, größer.", "cp1252", "CP1252"),
        ("Señor Núñez llegó ayer a la estación.", "latin-1", "CP1252"),
        ("Насос проверяют каждый месяц, и фильтр меняют весной. " * 3, "cp1251", "CP1251"),
        ("Насос проверяют каждый месяц, и фильтр меняют весной. " * 3, "koi8_r", "KOI8-R"),
        (
            "ポンプは毎月点検され、フィルターは春に交換されます。" * 3,
            "shift_jis",
            "(?:CP932|SHIFT-JIS)",
        ),
    ],
)
def test_the_remedy_names_the_likely_encoding(text: str, encoding: str, looks: str) -> None:
    with pytest.raises(NotTextError, match=rf"may be {looks}: .*iconv -f {looks}"):
        decode_text(text.encode(encoding), file="a.txt")
