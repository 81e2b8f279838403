"""The packages are a house with rooms: no file too long to read at once, no room too full."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = [
    path for name in ("sharding", "polyprag", "cluster") for path in (ROOT / name).rglob("*.py")
]


def test_no_file_has_more_than_300_lines() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {str(path): length for path, length in lengths.items() if length > 300} == {}


def test_no_room_but_the_commands_has_more_than_15_files() -> None:
    rooms = Counter(path.parent for path in FILES if path.name != "__init__.py")
    full = {str(room.relative_to(ROOT)) for room, number in rooms.items() if number > 15}
    assert full == {"polyprag/cli"}


def test_every_room_says_what_it_is_for() -> None:
    rooms = {path.parent for path in FILES}
    assert [str(room) for room in rooms if not (room / "__init__.py").is_file()] == []
    for room in rooms:
        assert (room / "__init__.py").read_text(encoding="utf-8").startswith('"""')
