"""Measurements kept as they are made, so that a long benchmark goes on where it stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Cells:
    """What was measured, by the settings that it was measured with: a line of JSON each."""

    def __init__(self, path: Path) -> None:
        """Reads what is there; a last line that a stop has cut is measured again."""
        self._path = path
        self._found: dict[str, Any] = {}
        whole = path.read_text(encoding="utf-8") if path.exists() else ""
        kept = whole[: whole.rfind("\n") + 1]
        if kept != whole:
            path.write_text(kept, encoding="utf-8")
        for line in kept.splitlines():
            cell = json.loads(line)
            self._found[_key(cell["settings"])] = cell["found"]

    def measured(self, settings: dict[str, Any], measure: Callable[[], Any]) -> Any:
        """Returns what was measured with these settings before, or measures and keeps it."""
        key = _key(settings)
        if key not in self._found:
            found = measure()
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"settings": settings, "found": found}) + "\n")
            self._found[key] = found
            print("measured:", ", ".join(f"{name} {value}" for name, value in settings.items()))
        return self._found[key]

    def all(self) -> list[tuple[dict[str, Any], Any]]:
        """Returns all settings that were measured, and what was found."""
        return [(json.loads(key), found) for key, found in self._found.items()]


def _key(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
