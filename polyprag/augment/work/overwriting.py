"""Whether an `augment --overwrite` was stopped, so that the same command goes on with it."""

from hashlib import sha256

from polyprag.augment.work.replies import drop_replies, partitions_with_replies
from polyprag.errors import RunError
from polyprag.run_dir import REPLIES
from sharding.corpus.manifest import CorpusManifest
from sharding.storage.files import exists, join, remove
from sharding.storage.versioned import FileKind, Stored

_FORMAT, _VERSION = "polyprag-overwriting", 1
_NAME = "overwriting.json"


class Overwriting(Stored, frozen=True):
    """What is being written anew.

    Attributes:
        settings: digest of those that it is written with.
        shards: digest of those that there were when it began.
    """

    settings: str
    shards: str
    format: str = _FORMAT
    version: int = _VERSION


OVERWRITING = FileKind(
    struct=Overwriting,
    form=_FORMAT,
    version=_VERSION,
    what="what an `augment --overwrite` keeps of its beginning",
    error=RunError,
    make="run `polyprag augment RUN --overwrite` first",
    remedy="delete it and run `polyprag augment RUN --overwrite` again",
)


def is_overwriting(run_dir: str) -> bool:
    """Returns whether a corpus is being written anew."""
    return exists(_url(run_dir))


def begins_anew(run_dir: str, manifest: CorpusManifest, settings: str) -> bool:
    """Returns whether nothing that partitions hold counts, as `--overwrite` has it.

    Where the same was begun before and stopped, replies that came since count, and so do the
    partitions that were finished.

    Args:
        run_dir: RUN.
        manifest: of the corpus as it is now.
        settings: digest of those that it is to be written with.
    """
    url = _url(run_dir)
    if exists(url):
        begun = OVERWRITING.read(url)
        if begun.settings == settings:
            return begun.shards == _shards(manifest)  # before the first of them was finished
    drop_replies(run_dir, partitions_with_replies(run_dir))  # they would be taken for new ones
    OVERWRITING.write(url, Overwriting(settings, _shards(manifest)))
    return True


def ends(run_dir: str) -> None:
    """Notes that nothing is left to be written anew."""
    remove(_url(run_dir))


def _shards(manifest: CorpusManifest) -> str:
    names = "".join(partition.sha256 for partition in manifest.partitions)
    return sha256(names.encode()).hexdigest()


def _url(run_dir: str) -> str:
    return join(run_dir, REPLIES, _NAME)
