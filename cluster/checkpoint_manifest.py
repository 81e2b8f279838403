"""The manifest of a training checkpoint: what it holds, and which run it can continue."""

from dataclasses import asdict, dataclass, field
from typing import Any

from polyprag.config import Config
from polyprag.config_files import flatten
from polyprag.encoding_manifest import BaseModel
from polyprag.errors import ConfigError, RunError
from sharding.errors import CorpusError
from sharding.files import exists, join, read_json, write_json
from sharding.manifest import CorpusManifest
from sharding.plan import Cursor

MANIFEST_NAME = "manifest.json"
_FORMAT, _VERSION = "polyprag-checkpoint", 1

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
    "generation.prompt",
)


@dataclass(frozen=True, slots=True)
class StateFile:
    """A file of the checkpoint, by its name inside the directory."""

    file: str
    sha256: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class CheckpointManifest:
    """Everything that continues a run; saved last, so that all it names is there.

    Attributes:
        step: global steps that are behind it.
        cursor: where the data goes on.
        world_size: of the workers that wrote it; any other number may resume.
        identity: the settings and corpus that a resuming run must share.
        experts: the experts and their moments.
        rows: of every partition that has been trained, by index.
    """

    step: int
    cursor: Cursor
    world_size: int
    identity: dict[str, Any]
    experts: StateFile
    rows: dict[int, StateFile] = field(default_factory=dict)

    def save(self, directory: str) -> None:
        """Writes `directory/manifest.json`, atomically."""
        values = asdict(self) | {
            "format": _FORMAT,
            "version": _VERSION,
            "cursor": self.cursor.to_json(),
            "rows": {str(index): asdict(entry) for index, entry in self.rows.items()},
        }
        write_json(join(directory, MANIFEST_NAME), values)

    @classmethod
    def load(cls, directory: str) -> "CheckpointManifest | None":
        """Reads the manifest; None where no checkpoint has been made.

        Raises:
            RunError: it is damaged or of another version.
        """
        url = join(directory, MANIFEST_NAME)
        if not exists(url):
            return None
        try:
            values = read_json(url)
            if values["format"] != _FORMAT or values["version"] != _VERSION:
                raise ValueError(f"format {values['format']!r} version {values['version']!r}")
            return cls(
                step=int(values["step"]),
                cursor=Cursor.from_json(values["cursor"]),
                world_size=int(values["world_size"]),
                identity=dict(values["identity"]),
                experts=_state_file(values["experts"]),
                rows={int(index): _state_file(entry) for index, entry in values["rows"].items()},
            )
        except (
            CorpusError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
        ) as error:
            raise RunError(
                f"{url}: not a checkpoint that this polyprag can continue ({error}); "
                f"delete {directory} to train from the start"
            ) from error

    def names(self) -> set[str]:
        """Every file that belongs to the checkpoint, besides the manifest."""
        return {self.experts.file, *(entry.file for entry in self.rows.values())}


def _state_file(values: Any) -> StateFile:
    entry = StateFile(str(values["file"]), str(values["sha256"]), int(values["num_bytes"]))
    if "/" in entry.file or entry.file.startswith("."):
        raise ValueError(f"file {entry.file!r} must lie in the checkpoint's own directory")
    return entry


def identity_of(
    config: Config, manifest: CorpusManifest, base_model: BaseModel | None = None
) -> dict[str, Any]:
    """The settings, corpus and, where it is loaded, base model that make a run the same run."""
    values = flatten(config)
    identity = {key: values[key] for key in _IDENTITY}
    identity["corpus"] = [part.sha256 for part in manifest.partitions]
    if base_model is not None:
        identity["base model"] = base_model.sha256
    return identity


def check_identity(checkpoint: CheckpointManifest, identity: dict[str, Any], run_dir: str) -> None:
    """Makes sure that a run continues its own checkpoint.

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
        raise ConfigError(
            f"{run_dir} has a checkpoint at step {checkpoint.step} that was trained with {what}; "
            f"restore that, use another run directory, or delete {join(run_dir, 'checkpoints')}"
        )
