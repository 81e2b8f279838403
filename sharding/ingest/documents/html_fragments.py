"""Pieces of HTML inside of Markdown: what a reader sees of them."""

from collections.abc import Iterator

from sharding.ingest.documents.blocks import Block, Heading

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_APART = frozenset(  # elements that begin and end a paragraph
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "center",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
_UNSEEN = frozenset(("script", "style", "template", "head", "noscript"))


def fragment_items(html: str, *, line: int) -> Iterator[Heading | Block]:
    """Yields the headings and paragraphs of a piece of HTML, all at one line.

    Args:
        html: as it stands in the document; its tags may be closed further down, or not at all.
        line: of the document.
    """
    from lxml import etree

    parser = etree.HTMLParser(remove_comments=True, remove_pis=True, no_network=True)
    try:
        root = etree.fromstring(f"<div>{html}</div>", parser)
    except (etree.LxmlError, ValueError):
        root = None
    if root is None:
        return
    text: list[str] = []
    level: int | None = None
    unseen = 0

    def ended() -> Iterator[Heading | Block]:
        found = " ".join("".join(text).split())
        text.clear()
        if found and level:
            yield Heading(level, found, line)
        elif found:
            yield Block("text", found, line)

    for event, element in etree.iterwalk(root, events=("start", "end")):
        tag = element.tag
        is_start = event == "start"
        if tag in _UNSEEN:
            unseen += 1 if is_start else -1
        elif tag in _APART or tag in _HEADINGS:
            yield from ended()
            level = _HEADINGS.get(tag) if is_start else None
        elif is_start and tag == "img":
            text.append(element.get("alt") or "")
        elif is_start and tag == "br":
            text.append(" ")
        if not unseen:
            text.append((element.text if is_start else element.tail) or "")
    yield from ended()
