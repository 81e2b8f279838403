"""The manifest of a training checkpoint: what it holds, and which run it can continue."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from cluster.plan.phases import Phase
from polyprag.config import Config
from polyprag.config.files import flatten
from polyprag.encoding.manifest import BaseModel
from polyprag.errors import ConfigError, RunError
from sharding.corpus.manifest import CorpusManifest
from sharding.storage.files import exists, join
from sharding.storage.versioned import FileKind, Natural, Sha256, Stored
from sharding.stream.plan import Cursor

if TYPE_CHECKING:
    from cluster.plan.steps import EncodePlan

MANIFEST_NAME = "manifest.json"
PREVIOUS_NAME = "manifest-previous.json"
_FORMAT, _VERSION = "polyprag-checkpoint", 2

# A run that changes one of these is another run: its steps, data or tensors would not fit.
_IDENTITY = (
    "data.lanes",
    "data.microbatch",
    "data.max_length",
    "data.formats",
    "experts.num",
    "experts.rank",
    "experts.alpha",
    "experts.targets",
    "router.granularity",
    "router.gate",
    "router.top_k",
    "router.init_std",
    "train.seed",
    "train.loss_on",
    "train.rows_second_moment",
    "generation.prompt",
)


class StateFile(Stored, frozen=True):
    """A file of the checkpoint, by its name inside the directory."""

    file: str
    sha256: Sha256
    num_bytes: Natural


class RowsFile(StateFile, frozen=True):
    """A partition's rows and moments, and what can be said of them without reading them.

    Attributes:
        step: global steps that were done when it was written.
        num_rows: of the partition.
        updates: the sum over its rows of the updates that each has had.
        untrained: rows that have had none.
        mean_norm: of the rows (Frobenius).
    """

    step: Natural
    num_rows: Natural
    updates: Natural
    untrained: Natural
    mean_norm: float


class CheckpointManifest(Stored, frozen=True):
    """Everything that continues a run; saved last, so that all it names is there.

    Attributes:
        step: global steps that are behind it.
        cursor: where the data goes on.
        world_size: of the workers that wrote it; any other number may resume.
        identity: the settings and corpus that a resuming run must share.
        phases: what the run has been trained for; the last one may be unfinished.
        experts: the experts and their moments.
        rows: of every partition that has been trained, by index.
        previous_step: of the checkpoint before it; 0 for the first.
    """

    step: Natural
    cursor: Cursor
    world_size: Natural
    identity: dict[str, Any]
    phases: Annotated[tuple[Phase, ...], msgspec.Meta(min_length=1)]
    experts: StateFile
    rows: dict[int, RowsFile] = msgspec.field(default_factory=dict)
    previous_step: Natural = 0
    format: str = _FORMAT
    version: int = _VERSION

    def save(self, directory: str, *, name: str = MANIFEST_NAME) -> None:
        """Writes `directory/manifest.json`, or another name, atomically."""
        _MANIFEST.write(join(directory, name), self, indent=-1)

    @classmethod
    def load(cls, directory: str, *, name: str = MANIFEST_NAME) -> "CheckpointManifest | None":
        """Reads the manifest; None where no checkpoint has been made.

        Raises:
            RunError: it is damaged or of another version; names the field.
        """
        url = join(directory, name)
        return _MANIFEST.read(url) if exists(url) else None

    def check(self) -> None:
        """Raises `ValueError` naming the field that can't be."""
        rows = {f"rows.{index}": entry for index, entry in self.rows.items()}
        for where, entry in {"experts": self.experts, **rows}.items():
            if "/" in entry.file or entry.file.startswith("."):
                raise ValueError(f"{where}.file must lie in the checkpoint's own directory")

    @property
    def phase(self) -> Phase:
        """What it is being trained for, or was last."""
        return self.phases[-1]

    @property
    def is_finished(self) -> bool:
        """Whether all steps of its last phase are done."""
        return self.step >= self.phase.last_step

    def names(self) -> set[str]:
        """Returns every file that belongs to the checkpoint, besides the manifest."""
        return {self.experts.file, *(entry.file for entry in self.rows.values())}

    def kept(self, directory: str) -> set[str]:
        """Its files, and those of the checkpoint before it, which is kept as well."""
        previous = load_previous(directory)
        return self.names() | (previous.names() if previous else set())


def load_previous(directory: str) -> CheckpointManifest | None:
    """Returns the checkpoint before the last; None where there is none that can be read."""
    try:
        return CheckpointManifest.load(directory, name=PREVIOUS_NAME)
    except RunError:
        return None


_MANIFEST = FileKind(
    struct=CheckpointManifest,
    form=_FORMAT,
    version=_VERSION,
    what="a checkpoint",
    error=RunError,
    make="run `polyprag encode RUN` first",
    remedy="copy it from elsewhere, or delete its directory to train from the start",
)


def identity_of(
    config: Config, manifest: CorpusManifest, base_model: BaseModel | None = None
) -> dict[str, Any]:
    """Returns the settings, corpus and base model (where it is loaded) that make a run the same."""
    values = flatten(config)
    identity = {key: values[key] for key in _IDENTITY}
    identity["corpus"] = [part.sha256 for part in manifest.partitions]
    if base_model is not None:
        identity["base model"] = base_model.sha256
    return identity


def check_identity(checkpoint: CheckpointManifest, identity: dict[str, Any], run_dir: str) -> None:
    """Makes sure that a run continues its own checkpoint; the corpus may have grown at its end.

    Raises:
        ConfigError: names the first setting that differs, and both ways out.
    """
    for key, value in identity.items():
        before = checkpoint.identity.get(key)
        if before == value:
            continue
        what = f"{key}={before!r}, and this command has {value!r}"
        if key in ("corpus", "base model"):
            what = f"another {key}"
        if key == "corpus" and isinstance(before, list):
            if value[: len(before)] == before:
                continue
            what += " (if a `polyprag remove` of it was interrupted, run that again)"
        raise ConfigError(
            f"{run_dir} has a checkpoint at step {checkpoint.step} that was trained with {what}; "
            f"restore that, use another run directory, or delete {join(run_dir, 'checkpoints')}"
        )


def check_cursor(checkpoint: CheckpointManifest, plan: "EncodePlan", run_dir: str) -> None:
    """Makes sure that the data goes on where the checkpoint says.

    Raises:
        RunError: this plan goes on elsewhere, so that examples would be passed over or repeated.
    """
    step, saved = checkpoint.step, checkpoint.cursor
    if not plan.first_step < step < plan.last_step:
        return  # nothing of the phase has been read, or nothing is left to read
    planned = plan.cursor_at(step)
    if planned == saved:
        return
    directory = join(run_dir, "checkpoints")
    raise RunError(
        f"{join(directory, MANIFEST_NAME)}: the data of step {step} goes on in epoch {saved.epoch} "
        f"after {saved.step} steps there, and with this corpus, these settings and this polyprag "
        f"it would go on in epoch {planned.epoch} after {planned.step}, or in other passages; "
        f"restore what it was trained with, or delete {directory} to train from the start"
    )
