"""Whether a run's base model is the one that its encoding was made with, before work begins."""

from pathlib import Path

from polyprag.config import Config
from polyprag.encoding.base import describe_base
from polyprag.encoding.manifest import MANIFEST_NAME
from polyprag.encoding.reader import Encoding, encoding_dir
from sharding.storage.files import exists, join


def check_run_base(run_dir: str | Path, config: Config) -> None:
    """Holds the base model that a command would use against RUN/encoding, if there is one.

    Neither the model's weights nor the encoding's are loaded.

    Args:
        run_dir: RUN.
        config: of the command.

    Raises:
        RunError: it is another, see `Encoding.check_base_model`; the encoding can't be read.
        ConfigError: the base model isn't there, or can't be.
    """
    if not exists(join(encoding_dir(run_dir), MANIFEST_NAME)):
        return
    # Seconds, which a run without an encoding needn't take.
    from polyprag.method.base_model import load_tokenizer

    encoding = Encoding.load(run_dir)
    encoding.check_base_model(describe_base(config.model, load_tokenizer(config.model)))
