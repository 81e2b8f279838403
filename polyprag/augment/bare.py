"""Passages that training would learn hardly anything of: nothing is written about them, or yet."""

from collections.abc import Callable

from polyprag.augment.corpus import num_open, num_without_augmentation
from polyprag.errors import RunError
from sharding.corpus.manifest import CorpusManifest

MOST_BARE = 0.2  # of the passages may have neither rewrite nor question before training is refused


def refuse_bare(
    run_dir: str,
    manifest: CorpusManifest,
    *,
    allow: bool,
    say: Callable[[str], object],
    go_on: str,
) -> None:
    """Refuses to train where too little is written, or says how much is missing.

    Args:
        run_dir: RUN.
        manifest: of its corpus, or of a part of it.
        allow: whether the user wants to go on whatever is missing.
        say: shows a note.
        go_on: the command that goes on.

    Raises:
        RunError: passages are open, or more than `MOST_BARE` are bare; says what to do.
    """
    open_, bare = num_open(manifest), num_without_augmentation(manifest)
    total = sum(part.num_passages - len(manifest.removed_in(part)) for part in manifest.partitions)
    is_unwritten = not all(part.augmented for part in manifest.partitions)
    if is_unwritten or not bare:
        return  # what trains says that `augment` comes first
    have = "has" if bare == 1 else "have"
    share = f"{bare:,} of {total:,} passages {have} no rewrite and no question"
    if allow or (not open_ and bare <= MOST_BARE * total):
        say(f"{share}: only the plain text is learnt, and hardly any question about it")
        return
    if open_:
        raise RunError(
            f"{run_dir}: {open_:,} of {total:,} passages are open, for which nothing usable came: "
            f"`polyprag augment {run_dir}` asks for them again; `{go_on} --allow-bare` goes on "
            "without"
        )
    raise RunError(
        f"{run_dir}: {share}, so that hardly any question about them will be answered: let a model "
        "write (`augment.backend=hf` or `openai`, with --overwrite) or give your own pairs "
        f"(`polyprag augment {run_dir} --qa FILE`); `polyprag augment {run_dir} --report` tells "
        f"more, and `{go_on} --allow-bare` goes on without"
    )
