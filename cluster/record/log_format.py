"""The lines of a worker's log: for people, or one JSON object each for programs."""

import logging
from dataclasses import asdict, dataclass

from sharding.printable import printable


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a worker's lines come from; every line says it.

    Attributes:
        rank: of the worker.
        world_size: workers in its group.
        run_id: of the run.
        host: on which machine.
    """

    rank: int
    world_size: int
    run_id: str
    host: str


class _Lines(logging.Formatter):
    """Text in which nothing from elsewhere acts on a terminal; of a traceback, several lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record's lines."""
        return printable(super().format(record), lines=True)


def log_formatter(style: str, origin: Origin) -> logging.Formatter:
    """Returns what writes log records as lines.

    Args:
        style: `text` or `json`; see `log.format`. JSON has `time` (ISO 8601, UTC), `level`,
            `logger`, `message`, the origin's fields, and `exc_info` where there was an error.
        origin: of the lines.
    """
    if style == "json":
        from pythonjsonlogger.json import JsonFormatter

        return JsonFormatter(
            ["levelname", "name", "message"],
            rename_fields={"levelname": "level", "name": "logger"},
            static_fields=asdict(origin),
            timestamp="time",
        )
    return _Lines(
        "%(asctime)s %(levelname)s run %(run_id)s rank %(rank)d/%(world_size)d on %(host)s "
        "%(name)s: %(message)s",
        defaults=asdict(origin),
    )
