"""Web pages: trafilatura finds their text among menus and the like, and gives it as Markdown."""

import html
import logging
import re

from sharding.ingest.documents.blocks import Block, Heading
from sharding.ingest.documents.html_fragments import fragment_items
from sharding.ingest.documents.markdown import markdown_items

_TITLE = re.compile(r"<title\b[^>]{0,500}>([^<]{0,2000})</title", re.IGNORECASE)
_TITLE_WITHIN = 1 << 17  # characters
_SITE = re.compile(r"\s(?:\||·|::)\s")  # behind which titles name the site
_HEADING = re.compile(r"<h[1-6]\b", re.IGNORECASE)
_FOUND_HEADING = re.compile(r"^#{1,6} ", re.MULTILINE)
_BODY = re.compile(r"<body\b[^>]{0,2000}>", re.IGNORECASE)
_SMALL = 250  # characters of what is extracted
_AROUND = frozenset(("nav", "footer", "aside", "form", "button"))  # of the content
_BEGIN = re.compile(r"\s*<(?:!--|(?:\?xml|!doctype\s+html|html|head|body)\b)", re.IGNORECASE)
_IS_PAGE = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)


def is_web_page(begin: str) -> bool:
    """Returns whether a text is HTML, by how it begins."""
    return _BEGIN.match(begin) is not None and _IS_PAGE.search(begin) is not None


def page_items(text: str) -> tuple[str, list[Heading | Block]]:
    """Returns what a page's `<title>` says, and the headings and blocks of its content.

    Their lines are those of what was extracted.
    """
    found = _extracted(text)
    if _HEADING.search(text) and not _FOUND_HEADING.search(found):
        # It knows content without headings where a page's parts are directly in its body.
        found = max(_extracted(_in_main(text)), found, key=_worth)
    if len(found) < _SMALL:  # where it tells content from menus by their size, and fails
        items = list(fragment_items(text, line=1, without=_AROUND))
    else:
        _, items = markdown_items("\n" + found)  # so that nothing is front matter
    title = _TITLE.search(text, 0, _TITLE_WITHIN)
    return html.unescape(_SITE.split(title[1])[0]).strip() if title else "", items


def _extracted(text: str) -> str:
    from trafilatura import extract

    # Its warnings tell of pages without a text, which are counted here.
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    found = extract(
        text,
        output_format="markdown",
        favor_recall=True,
        include_comments=False,
        include_tables=True,
        include_formatting=True,
        include_links=False,
    )
    return found or ""


def _in_main(text: str) -> str:
    """Returns a page whose content is in one element that is known to hold content."""
    begin, end = _BODY.search(text), text.lower().rfind("</body")
    at = begin.end() if begin else 0
    end = end if end >= at else len(text)
    return f"{text[:at]}<main>{text[at:end]}</main>{text[end:]}"


def _worth(found: str) -> tuple[int, int]:
    """Returns by how much an extraction with headings is preferred to one without."""
    return len(found) // 2 * (2 if _FOUND_HEADING.search(found) else 1), len(found)
