"""The small directory that a Ray job works in: this polyprag's own code, and configs of the user.

So a job runs the code of whoever submits it, and the cluster's machines need only the packages that
polyprag depends on. Environments and data stay where they are: Ray refuses more than 100 MB.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import cluster
import polyprag
import sharding
from polyprag.config.files import locate
from polyprag.config.shipped import shipped_configs
from polyprag.pretrained import TINY_BASE, located
from sharding.storage.files import read_bytes


def fill_job_directory(
    directory: Path, arguments: Sequence[str], *, with_code: bool = True
) -> list[str]:
    """Fills a directory for a job.

    Args:
        directory: empty.
        arguments: of the command; a config file that they name goes along.
        with_code: whether the packages do; otherwise the cluster has them installed.

    Returns:
        The arguments as the job gets them.

    Raises:
        ConfigError: a config is neither a file nor shipped.
    """
    if with_code:
        for package in (polyprag, sharding, cluster):
            source = Path(package.__file__ or "").parent
            unwanted = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(source, directory / source.name, ignore=unwanted)
        model = Path(located(TINY_BASE))
        target = directory / "polyprag" / "models" / model.name
        unwanted = shutil.ignore_patterns("*.md", "*.py", "__pycache__")
        shutil.copytree(model, target, ignore=unwanted, dirs_exist_ok=True)
        for name, path in shipped_configs().items():
            target = directory / "polyprag" / "configs" / f"{name}.yaml"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    packed = list(arguments)
    for number, (at, config) in enumerate(named_configs(arguments).items()):
        name = config
        if locate(config) == config:  # a file, not one that ships
            name = f"config-{number}.yaml"
            (directory / name).write_bytes(read_bytes(config))
        packed[at] = arguments[at].removesuffix(config) + name
    return packed


def named_configs(arguments: Sequence[str]) -> dict[int, str]:
    """Returns the configs of `--config FILE` and `--config=FILE`, by the arguments' positions."""
    found = {}
    for at, argument in enumerate(arguments):
        if at and arguments[at - 1] == "--config":
            found[at] = argument
        elif argument.startswith("--config="):
            found[at] = argument.removeprefix("--config=")
    return found
