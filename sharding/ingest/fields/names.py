"""The names under which ids, titles and texts are known in other people's files, best first.

A field's name counts as one of these whatever its case, and with a space or a hyphen for `_`.
"""

from collections.abc import Iterable

IDS = (
    "id",
    "_id",
    "pid",
    "passage_id",
    "psg_id",
    "docid",
    "doc_id",
    "docno",
    "document_id",
    "wikipedia_id",
    "chunk_id",
    "uuid",
    "guid",
)
TITLES = (
    "title",
    "wikipedia_title",
    "page_title",
    "doc_title",
    "document_title",
    "article_title",
    "headline",
    "heading",
    "name",
)
TEXTS = (
    "text",
    "contents",
    "content",
    "passage",
    "passage_text",
    "body",
    "segment",
    "paragraph",
    "paragraph_text",
    "chunk",
    "page_content",
    "context",
    "document",
    "article",
    "abstract",
    "description",
    "sentences",
    "paragraphs",
)
# Of fields that hold several passages, where a row has no text of its own.
SEVERAL = ("context", "paragraphs", "contexts", "passages", "ctxs", "documents")
QUESTIONS = ("question", "query")
TITLED = "contents"  # whose first line is the title with FlashRAG and Pyserini


def plain(name: str) -> str:
    """Returns a name as it is compared."""
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def known_as(wanted: Iterable[str], present: Iterable[str]) -> list[str]:
    """Returns the names that are present and among the wanted ones, in the order of these.

    Of names that differ in case only, one that is spelled as wanted comes first.
    """
    by_plain: dict[str, list[str]] = {}
    for name in present:
        by_plain.setdefault(plain(name), []).append(name)
    found = []
    for name in wanted:
        found += sorted(by_plain.get(name, []), key=lambda spelled: spelled != name)
    return found
