"""The configs that come with polyprag."""

from pathlib import Path


def shipped_configs() -> dict[str, Path]:
    """Returns the configs that come with polyprag by name, such as `deepspeed/zero3`.

    They lie beside the packages in a checkout, and inside `polyprag` in an installed wheel.
    """
    package = Path(__file__).parents[1]
    root = next((p for p in (package / "configs", package.parent / "configs") if p.is_dir()), None)
    if root is None:
        return {}
    return {
        path.relative_to(root).with_suffix("").as_posix(): path
        for path in sorted(root.rglob("*.yaml"))
    }
