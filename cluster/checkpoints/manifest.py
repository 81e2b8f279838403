"""The manifest of a training checkpoint: what it holds, and which run it can continue."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from cluster.plan.phases import Phase
from polyprag.config import Config
from polyprag.config.files import CONFIG_FILE, load_saved_config
from polyprag.config.keys import flatten
from polyprag.encoding.base import BaseModel, remedy_for
from polyprag.errors import ConfigError, RunError
from sharding.corpus.manifest import CorpusManifest
from sharding.storage.decoding import convert
from sharding.storage.files import exists, join
from sharding.storage.versioned import FileKind, Natural, Sha256, Stored
from sharding.stream.plan import Cursor

if TYPE_CHECKING:
    from cluster.plan.steps import EncodePlan

MANIFEST_NAME = "manifest.json"
PREVIOUS_NAME = "manifest-previous.json"
_FORMAT, _VERSION = "polyprag-checkpoint", 2
_BASE_MODEL = "base model"

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
    "experts.skip_prefix",
    "router.granularity",
    "router.gate",
    "router.top_k",
    "router.init_std",
    "train.seed",
    "train.loss_on",
    "train.objective",
    "train.teacher_answers",
    "train.rows_second_moment",
    "generation.prompt",
    "generation.date",
    "generation.instruction",
    "generation.thinking",
)
# Which earlier checkpoints don't have, but what they were trained with is known.
_BEFORE = {
    "experts.skip_prefix": False,
    "train.objective": "answers",
    "train.teacher_answers": "missing",
    "generation.instruction": "",
    "generation.thinking": "template",
}
# Nor this, and the day of their training is as good as any.
_LATER = ("generation.date",)
# What only a chat template is told.
_OF_CHAT = ("generation.date", "generation.instruction", "generation.thinking")


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
    """Returns the settings, corpus and base model (where it is known) that make a run the same."""
    values = flatten(config)
    identity = {key: values[key] for key in _IDENTITY}
    identity["corpus"] = [part.sha256 for part in manifest.partitions]
    if base_model is not None:
        identity[_BASE_MODEL] = msgspec.to_builtins(base_model)
    return identity


def check_identity(checkpoint: CheckpointManifest, identity: dict[str, Any], run_dir: str) -> None:
    """Makes sure that a run continues its own checkpoint; the corpus may have grown at its end.

    Raises:
        ConfigError: names the first setting that differs, and both ways out.
    """
    of_template = () if _uses_template(identity) else _OF_CHAT
    for key, value in identity.items():
        if key in of_template or (key in _LATER and key not in checkpoint.identity):
            continue
        before = checkpoint.identity.get(key, _BEFORE.get(key))
        if before == value:
            continue
        what = f"{key}={before!r}, and this command has {value!r}"
        ways_out = "restore that"
        if key == _BASE_MODEL:
            found = _other_base(
                before, value, run_dir, chat=identity["generation.prompt"] != "plain"
            )
            if found is None:
                continue
            what, ways_out = found
        if key == "corpus":
            what = f"another {key}"
        if key == "corpus" and isinstance(before, list):
            if value[: len(before)] == before:
                continue
            what += " (if a `polyprag remove` of it was interrupted, run that again)"
        raise ConfigError(
            f"{run_dir} has a checkpoint at step {checkpoint.step} that was trained with {what}; "
            f"{ways_out}, use another run directory, or delete {join(run_dir, 'checkpoints')}"
        )


def _uses_template(identity: dict[str, Any]) -> bool:
    """Tells whether prompts are laid out by a chat template, or may be."""
    style, base = identity["generation.prompt"], identity.get(_BASE_MODEL)
    return style == "chat" or (style == "auto" and (base is None or bool(base["chat_template"])))


def _other_base(before: Any, value: Any, run_dir: str, *, chat: bool) -> tuple[str, str] | None:
    """Returns what to say of another base model, and what to do; None if it is the same.

    Args:
        before: what the checkpoint has of its base model; earlier versions kept the SHA-256 of
            config.json alone.
        value: what `identity_of` has of this command's.
        run_dir: whose settings name the base of a checkpoint that doesn't.
        chat: whether prompts are laid out by the chat template.
    """
    now = convert(value, BaseModel)
    if before is None:
        return None
    if isinstance(before, str):
        if before == now.sha256:
            return None
        saved = load_saved_config(join(run_dir, CONFIG_FILE)).model.path
        return (
            f"another base model than {now.path!r}, as far as its config.json tells, which is all "
            f"that was kept of it (SHA-256 {before[:12]}, and here {now.sha256[:12]})",
            f"set model.path={saved}, as the run's settings have it",
        )
    try:
        trained_with = convert(before, BaseModel)
    except ValueError as error:
        return f"a base model that can't be read ({error})", "copy the checkpoint again"
    difference = trained_with.difference(now, chat=chat)
    if difference is None:
        return None
    return (
        f"the base model {trained_with.path!r}, and {now.path!r} has {difference}",
        remedy_for(trained_with, now),
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
