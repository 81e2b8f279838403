import pytest

from sharding.ingest.documents.blocks import Block, Heading
from sharding.ingest.documents.web_pages import is_web_page, page_items

CONTENT = (
    "<h1>Returns</h1><p>You can return a lamp within 30 days.</p>"
    "<table><tr><th>Plan</th><th>Days</th></tr><tr><td>Basic</td><td>30</td></tr></table>"
    "<h2>How</h2><ul><li>Pack it.</li><li>Send it.</li></ul>"
)
LONG = "<p>" + "Every lamp is checked before it is sent out again to somebody. " * 8 + "</p>"
NAV = '<nav><a href="/">Home</a> <a href="/shop">Shop</a></nav>'
FOOT = "<footer>Copyright Acme</footer>"


@pytest.mark.parametrize("long", ["", LONG])
@pytest.mark.parametrize(
    "form", ["{}", "<main>{}</main>", "<div class=page><div class=content>{}</div></div>"]
)
def test_a_page_is_its_content_whatever_it_stands_in(form: str, long: str) -> None:
    page = (
        "<!doctype html><html><head><title>Returns &amp; more | Acme</title></head>"
        f"<body>{NAV}{form.format(CONTENT + long)}{FOOT}</body></html>"
    )
    title, items = page_items(page)
    assert title == "Returns & more"
    assert [item.text for item in items if isinstance(item, Heading)] == ["Returns", "How"]
    blocks = [(item.kind, item.text) for item in items if isinstance(item, Block)]
    assert blocks[:4] == [
        ("text", "You can return a lamp within 30 days."),
        ("row", "Plan: Basic; Days: 30."),
        ("item", "- Pack it."),
        ("item", "- Send it."),
    ]
    assert len(blocks) == (5 if long else 4)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("<tr><th><p>Plan</p></th><th>Price</th></tr>"
         "<tr><td><p>Basic</p></td><td><p>9</p><p>EUR</p></td></tr>",
         ["Plan: Basic; Price: 9 EUR."]),
        ("<tr><td><h3>A</h3></td><td><ul><li>c</li><li>d</li></ul></td></tr>", ["A; c d."]),
        ("<tr><td>a<table><tr><td>x</td><td><div>y</div></td></tr></table>b</td><td>c</td></tr>",
         ["x; y.", "a b; c."]),
    ],
)  # fmt: skip
def test_cells_may_hold_paragraphs_lists_and_tables(rows: str, said: list[str]) -> None:
    _, items = page_items(f"<body><table>{rows}</table><p>after</p></body>")
    assert [item.text for item in items] == [*said, "after"]


def test_scripts_and_styles_are_no_text() -> None:
    _, items = page_items("<style>p {}</style><p>Seen.</p><script>var x;</script>")
    assert items == [Block("text", "Seen.", 1)]


def test_a_page_without_a_text_has_no_items() -> None:
    assert page_items("<html><body><div id=app></div><script>run()</script></body></html>") == (
        "",
        [],
    )


def test_deeply_nested_elements_are_no_error() -> None:
    assert page_items("<div>" * 400 + "deep" + "</div>" * 400)[1] == [Block("text", "deep", 1)]
    page_items("<div>" * 50_000 + "deeper")


def test_html_is_known_by_its_beginning() -> None:
    for text in ("<!DOCTYPE html>\n<p>", "\n<html lang=en>", "<!-- x -->\n<html>", "<body>x"):
        assert is_web_page(text)
    for text in ("<?xml version='1.0'?><feed>", "a < b", "<b>bold</b> text", "<header>x"):
        assert not is_web_page(text)
