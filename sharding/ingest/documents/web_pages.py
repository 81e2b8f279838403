"""Web pages: trafilatura finds their text among menus and the like, and gives it as Markdown."""

import html
import logging
import re
from functools import lru_cache
from typing import Any

from sharding.ingest.documents.blocks import Block, Heading
from sharding.ingest.documents.markdown import markdown_items

_TITLE = re.compile(r"<title\b[^>]{0,500}>([^<]{0,2000})</title", re.IGNORECASE)
_TITLE_WITHIN = 1 << 17  # characters
_SITE = re.compile(r"\s(?:\||·|::)\s")  # behind which titles name the site
_BEGIN = re.compile(r"\s*<(?:!--|(?:\?xml|!doctype\s+html|html|head|body)\b)", re.IGNORECASE)
_IS_PAGE = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)


def is_web_page(begin: str) -> bool:
    """Returns whether a text is HTML, by how it begins."""
    return _BEGIN.match(begin) is not None and _IS_PAGE.search(begin) is not None


def page_items(text: str) -> tuple[str, list[Heading | Block]]:
    """Returns what a page's `<title>` says, and the headings and blocks of its content.

    Their lines are those of what was extracted.
    """
    from trafilatura import extract

    found = extract(text, **_options())
    _, items = markdown_items("\n" + (found or ""))  # so that nothing is front matter
    title = _TITLE.search(text, 0, _TITLE_WITHIN)
    return html.unescape(_SITE.split(title[1])[0]).strip() if title else "", items


@lru_cache
def _options() -> dict[str, Any]:
    # Its warnings tell of pages without a text, which are counted here.
    logging.getLogger("trafilatura").addHandler(logging.NullHandler())
    return {
        "output_format": "markdown",
        "favor_recall": True,
        "include_comments": False,
        "include_tables": True,
        "include_formatting": True,
        "include_links": False,
    }
