"""Whether RUN/encoding is whole, and of the corpus that is there."""

from collections.abc import Mapping

from polyprag.config.files import CONFIG_FILE, load_config
from polyprag.encoding.adapter import ADAPTER_WEIGHTS
from polyprag.encoding.edit import EXPERTS_FILE
from polyprag.encoding.manifest import MANIFEST_NAME, EncodingManifest
from polyprag.errors import FileError, PolypragError
from polyprag.run_dir import ENCODING
from polyprag.verify.files import size_in, size_problem, sizes_in
from polyprag.verify.findings import RunFindings, stage_manifest
from polyprag.verify.tensors import expert_problems, rows_problems
from sharding.checks.problem import Problem, leftovers
from sharding.corpus.manifest import CorpusManifest
from sharding.counted import counted
from sharding.shown_progress import ShowProgress
from sharding.storage.files import TEMPORARY_NAME, exists, join, sha256_of

_BEFORE = "an encoding before this one"
_ENCODE = (
    "delete RUN/encoding/manifest.json and run `polyprag encode RUN` again, which writes the "
    "encoding anew from the last checkpoint"
)


def verify_encoding(
    found: RunFindings,
    run_dir: str,
    corpus: CorpusManifest | None,
    *,
    quick: bool,
    show: ShowProgress,
) -> None:
    """Checks RUN/encoding and adds what is wrong to what was found.

    Args:
        found: of the run so far.
        run_dir: RUN.
        corpus: the manifest of RUN/corpus, if it can be read.
        quick: whether only presence and sizes are checked.
        show: shows how far it is.
    """
    directory = join(run_dir, ENCODING)
    manifest = stage_manifest(found, ENCODING, directory, EncodingManifest.load)
    if manifest is None:
        return
    problems = found.problems
    url = join(directory, MANIFEST_NAME)
    removed: dict[int, list[int]] = {}
    if corpus is not None:
        misfits = _misfits(manifest, corpus)
        problems += [Problem(url, f"{url}: {what}") for what in misfits]
        if not misfits:
            removed = {part.index: corpus.removed_in(part) for part in corpus.partitions}
            found.notes += _behind(url, manifest, corpus)
    try:
        if not exists(join(directory, CONFIG_FILE)):
            raise FileError(f"{join(directory, CONFIG_FILE)}: no such file; {_ENCODE}")
        load_config(join(directory, CONFIG_FILE))
    except PolypragError as error:
        problems.append(Problem(join(directory, CONFIG_FILE), str(error)))
    sizes = sizes_in(join(directory, "rows"))
    with show(len(manifest.parts) + 1, ENCODING, unit="files") as advance:
        for part in manifest.parts:
            file = join(directory, part.file)
            shape = (part.num_passages, manifest.num_sites, manifest.num_experts)
            size = size_in(sizes, part.file.removeprefix("rows/"), url=file)
            least = 4 * shape[0] * shape[1] * shape[2]
            if wrong := size_problem(file, size, at_least=least, remedy=_ENCODE):
                problems.append(wrong)
            elif not quick:
                problems += rows_problems(
                    file,
                    (part.index, part.first_id, part.num_passages),
                    sha256=part.sha256,
                    shape=shape,
                    removed=removed.get(part.index, ()),
                    remedy=_ENCODE,
                )
            advance(1)
        file = join(directory, manifest.experts.file)
        beside = sizes_in(directory)
        size = size_in(beside, manifest.experts.file, url=file)
        if wrong := size_problem(file, size, remedy=_ENCODE):
            problems.append(wrong)
        elif not quick:
            sha256 = manifest.experts.sha256
            problems += expert_problems(file, manifest, sha256=sha256, remedy=_ENCODE)
            problems += _adapter_problems(directory, beside, sha256)
        advance(1)
    named = {part.file.removeprefix("rows/") for part in manifest.parts}
    stray = [
        name
        for name in sizes or ()
        if name not in named and (name.startswith("part-") or TEMPORARY_NAME.fullmatch(name))
    ]
    problems += leftovers(join(directory, "rows"), stray, what=_BEFORE)
    experts = [n for n in beside or () if EXPERTS_FILE.fullmatch(n) and n != manifest.experts.file]
    problems += leftovers(directory, experts, what=_BEFORE)
    problems += _temporary(directory)
    of_all = (
        f" of {corpus.num_passages:,}"
        if corpus and manifest.num_passages < corpus.num_passages
        else ""
    )
    found.checked[ENCODING] = (
        f"{manifest.num_passages:,}{of_all} rows in {counted(len(manifest.parts), 'part')}, "
        f"{manifest.num_experts} experts"
    )


def _misfits(manifest: EncodingManifest, corpus: CorpusManifest) -> list[str]:
    """Returns where an encoding has other ids than the corpus."""
    again = "it is of another corpus: run `polyprag encode` again, or bring that corpus back"
    if len(manifest.parts) > len(corpus.partitions):
        return [
            f"parts: {len(manifest.parts)} of them where the corpus has {len(corpus.partitions)} "
            f"partitions; {again}"
        ]
    wrong = []
    for part, partition in zip(manifest.parts, corpus.partitions, strict=False):
        mine = (part.first_id, part.num_passages)
        theirs = (partition.first_id, partition.num_passages)
        if mine != theirs:
            wrong.append(
                f"parts[{part.index}]: has {mine[1]} passages from id {mine[0]} on where the "
                f"corpus has {theirs[1]} from {theirs[0]} on; {again}"
            )
    return wrong


def _behind(url: str, manifest: EncodingManifest, corpus: CorpusManifest) -> list[str]:
    """Returns what a user should know of an encoding whose corpus has grown since."""
    newer = corpus.num_passages - manifest.num_passages
    if not newer:
        return []
    return [
        f"{url}: has no rows of the corpus's last {counted(newer, 'passage')}, from "
        f"{manifest.num_passages} on; `polyprag add RUN` trains them with the experts as they "
        "are, `polyprag train-more RUN` together with all others"
    ]


def _adapter_problems(
    directory: str, beside: Mapping[str, int] | None, sha256: str
) -> list[Problem]:
    """Returns that peft would load other experts: a stop came between manifest and adapter."""
    if ADAPTER_WEIGHTS not in (beside or {}):
        return []  # in object storage, or of a version that wrote none
    file = join(directory, ADAPTER_WEIGHTS)
    if sha256_of(file) == sha256:
        return []
    return [Problem(file, f"{file}: these aren't the encoding's experts; {_ENCODE}")]


def _temporary(directory: str) -> list[Problem]:
    names = [name for name in sizes_in(directory) or () if TEMPORARY_NAME.fullmatch(name)]
    return leftovers(directory, names, what="a writer that was killed")
