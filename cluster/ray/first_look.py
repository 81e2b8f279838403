"""What the driver looks at before Ray starts and before anything is saved: model and corpus."""

import sys

from cluster.plan.token_sample import spread_ids
from polyprag.config import Config
from polyprag.encoding.base import BaseModel, describe_base
from polyprag.errors import CorpusError, FileError
from polyprag.method.base_look import look_at_base
from polyprag.method.unknown_tokens import check_vocabulary
from sharding.corpus.reader import Corpus
from sharding.printable import printable

_NUM_READ = 32  # passages, each by itself


def first_look(config: Config, corpus_url: str) -> BaseModel:
    """Checks that a base model can be trained on a corpus, and warns of what it will miss.

    Args:
        config: of the run.
        corpus_url: `RUN/corpus`.

    Returns:
        What tells the base model from others.

    Raises:
        ConfigError: it can't be; names the setting or the file, and what to change.
    """
    tokenizer = look_at_base(config, say=_warn)
    where = f"model.path={config.model.path!r}"
    check_vocabulary(tokenizer, _sample(corpus_url), where=where, say=_warn)
    return describe_base(config.model, tokenizer)


def _sample(corpus_url: str) -> dict[str, str]:
    """Returns some passages' titles and texts, by their keys."""
    corpus = Corpus.open(corpus_url)
    ids = spread_ids(corpus.manifest.num_passages, _NUM_READ)
    try:
        passages = [corpus.record(i).passage for i in ids]
    except (CorpusError, FileError):
        return {}  # whoever reads the shards says what is wrong, and where
    return {each.key: f"{each.title}\n{each.text}" for each in passages if not each.is_removed}


def say(text: str) -> None:
    """Prints a line beside what the command itself prints."""
    print(printable(text), file=sys.stderr, flush=True)


def _warn(text: str) -> None:
    say(f"warning: {text}")
