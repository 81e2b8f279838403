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
from polyprag.config_files import shipped_configs
from polyprag.errors import ConfigError
from sharding.files import exists, read_bytes


def pack(directory: Path, arguments: Sequence[str], *, with_code: bool = True) -> list[str]:
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
        for name, path in shipped_configs().items():
            target = directory / "polyprag" / "configs" / f"{name}.yaml"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    packed, files = [], 0
    previous = ""
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if previous == "--config":
            argument = _packed(argument, directory, files)
            files += 1
        elif option == "--config" and equals:
            argument = f"--config={_packed(value, directory, files)}"
            files += 1
        packed.append(argument)
        previous = argument
    return packed


def _packed(config: str, directory: Path, number: int) -> str:
    """The name under which a job finds a config."""
    if exists(config):
        name = f"config-{number}.yaml"
        (directory / name).write_bytes(read_bytes(config))
        return name
    if config not in shipped_configs():
        raise ConfigError(
            f"no config file {config}, and none ships under this name: `polyprag config list`"
        )
    return config
