"""A number of things in words."""


def counted(count: int, unit: str) -> str:
    """Returns a number of things, such as `2 workers`; `unit` in the singular."""
    return f"{count:,} {unit}{'' if count == 1 else 's'}"
