"""Files of question-answer pairs: JSON lines, JSON, CSV or TSV, told by what they hold."""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from polyprag.augment.pairs.fields import pair_of
from polyprag.augment.pairs.pair import Pair, PairsError, Unusable
from polyprag.augment.pairs.prag import is_prag, prag_pairs
from sharding.storage.decoding import decode
from sharding.storage.files import open_url

_GZIP = b"\x1f\x8b"
_MARK = b"\xef\xbb\xbf"  # which some editors put before UTF-8
_SHORT = 80
csv.field_size_limit(1 << 27)


def read_pairs(url: str) -> Iterator[Pair | Unusable]:
    """Yields the pairs of a file, and of PRAG's the items that are none.

    Args:
        url: JSON lines of objects; a JSON list of them, or an object that holds one; SQuAD's or
            PRAG's JSON; or a table with a header, separated by commas, semicolons or tabs. It may
            be compressed with gzip.

    Raises:
        PairsError: it is none of that, or a pair lacks something; names file and line or item.
        FileError: it can't be read.
    """
    with open_url(url) as file:
        data = file.read()
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise PairsError(f"{url}: damaged gzip ({error})") from error
    data = data.removeprefix(_MARK)
    begin = data.lstrip()[:1]
    if not begin:
        raise PairsError(f"{url}: it is empty")
    if begin == b"[":
        yield from _of_list(_json(data, url), url)
    elif begin == b"{":
        yield from _of_objects(data, url)
    else:
        yield from _of_table(data, url)


def _json(data: bytes, where: str) -> Any:
    try:
        return decode(data, object)
    except ValueError as error:
        try:  # whose errors name the line
            json.loads(data)
        except json.JSONDecodeError as told:
            raise PairsError(f"{where}:{told.lineno}: not valid JSON ({told.msg})") from error
        except (ValueError, RecursionError):
            pass
        raise PairsError(f"{where}: not valid JSON ({error})") from error


def _of_objects(data: bytes, url: str) -> Iterator[Pair | Unusable]:
    """Yields the pairs of JSON lines, or of one object over several lines."""
    lines = enumerate(data.splitlines(), start=1)
    whole = [(number, line) for number, line in lines if line.strip()]
    try:
        decode(whole[0][1], object)
    except ValueError:
        yield from _of_object(_json(data, url), url)
        return
    for number, line in whole:
        where = f"{url}:{number}"
        try:
            fields = decode(line, object)
        except ValueError as error:
            raise PairsError(f"{where}: not valid JSON ({error})") from error
        if len(whole) == 1:
            yield from _of_object(fields, where)
        else:
            yield from _of_item(fields, where)


def _of_object(value: Any, where: str) -> Iterator[Pair | Unusable]:
    """Yields the pairs of the only object in a file: of the one list in it, or it is the pair."""
    lists = [
        each
        for each in value.values()
        if isinstance(each, list) and any(isinstance(item, Mapping) for item in each)
    ]
    if len(lists) == 1 and not is_prag(value):
        yield from _of_list(lists[0], where)
    else:
        yield from _of_item(value, where)


def _of_list(items: Any, url: str) -> Iterator[Pair | Unusable]:
    for number, item in enumerate(items):
        yield from _of_item(item, f"{url}: item {number}")


def _of_item(item: Any, where: str) -> Iterator[Pair | Unusable]:
    if not isinstance(item, Mapping):
        short = json.dumps(item)[:_SHORT]
        raise PairsError(f"{where}: {short} isn't an object with a question and an answer")
    if is_prag(item):
        yield from prag_pairs(item, where)
    elif isinstance(item.get("paragraphs"), list):  # an article of SQuAD
        for number, paragraph in enumerate(item["paragraphs"]):
            yield from _of_paragraph(paragraph, f"{where}, paragraphs[{number}]")
    elif isinstance(item.get("qas"), list):
        yield from _of_paragraph(item, where)
    else:
        yield pair_of(item, where)


def _of_paragraph(paragraph: Any, where: str) -> Iterator[Pair | Unusable]:
    """Yields the pairs of a text with a list of them, but for questions without an answer."""
    if not isinstance(paragraph, Mapping) or not isinstance(paragraph.get("qas"), list):
        raise PairsError(f"{where}: not an object with a context and its qas")
    given = {name: value for name, value in paragraph.items() if name != "qas"}
    for number, qa in enumerate(paragraph["qas"]):
        if not isinstance(qa, Mapping):
            raise PairsError(f"{where}, qas[{number}]: not an object")
        if not qa.get("is_impossible"):
            yield pair_of({**qa, **given}, f"{where}, qas[{number}]")


def _of_table(data: bytes, url: str) -> Iterator[Pair | Unusable]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PairsError(f"{url}:{line}: not UTF-8; save it as UTF-8") from error
    begin = len(text) - len(text.lstrip())
    begin = text.rfind("\n", 0, begin) + 1  # blank lines before the header are nothing
    lines_before, text = text.count("\n", 0, begin), text[begin:]
    header = text.splitlines()[0]
    separator = max("\t;,", key=header.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restkey="more fields")
    try:
        for row in rows:
            where = f"{url}:{lines_before + rows.line_num}"
            if row.pop("more fields", None) is not None:
                raise PairsError(f"{where}: it has more fields than the header names")
            yield pair_of(row, where)
    except csv.Error as error:
        raise PairsError(f"{url}:{lines_before + rows.line_num}: {error}") from error
