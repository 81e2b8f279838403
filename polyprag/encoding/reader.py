"""The trained artefact: expert pool, routing table, config and manifest in `RUN/encoding`.

Rows are read through a memory map of the parts that are asked for, so an encoding of millions of
passages opens at once. Every file is checked against its checksum when it is first read.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from polyprag.config import Config
from polyprag.config.files import CONFIG_FILE, load_saved_config, save_config
from polyprag.config.trust import harmless
from polyprag.encoding.adapter import peft_names, pool_names, write_adapter_files
from polyprag.encoding.base import BaseModel, remedy_for
from polyprag.encoding.manifest import (
    EncodingManifest,
    ExpertsFile,
    RowsPart,
    Trained,
)
from polyprag.errors import FileError, RunError
from polyprag.method.finite import names_not_finite
from sharding.rows.file import load_rows, map_rows
from sharding.storage.files import atomic_write, exists, join, read_bytes, sha256_of
from sharding.storage.urls import local_path

_MAX_OPEN_PARTS = 512  # a process may hold some 65,000 maps in all
_MAX_LOADED_PARTS = 16  # of a remote encoding, whose parts are held in memory
_OTHER_SHA256 = "SHA-256 differs from the manifest's"
DIVERGED = (
    "the training that wrote it diverged: delete RUN/checkpoints and encode again, with a lower "
    "train.experts_lr or train.rows_lr, or train.grad_clip=1"
)
_DAMAGED = "it is damaged or from another run: run `polyprag encode RUN` again"


def encoding_dir(run_dir: str | Path) -> str:
    """Returns `RUN/encoding`."""
    return join(run_dir, "encoding")


def save_encoding(
    directory: str | Path,
    *,
    config: Config,
    expert_state: Mapping[str, Tensor],
    base_model: BaseModel,
    num_sites: int,
    parts: Sequence[RowsPart],
    trained: Trained,
    variant: str = "",
    check: Callable[[], None] | None = None,
) -> EncodingManifest:
    """Writes experts, config and, last, the manifest; the rows' files are there already.

    Args:
        directory: `encoding_dir(run_dir)`.
        config: the resolved config that it was trained with.
        expert_state: `ExpertPool.state_dict()`.
        base_model: see `describe_base`.
        num_sites: S of the rows.
        parts: what `sharding.rows.file.save_rows` wrote under `directory`, in id order.
        trained: steps and epochs.
        variant: sets the experts' file apart from that of an encoding that is there, which stays
            whole until the manifest is written; its old one must be removed then.
        check: is called before what is there is replaced, and raises if it mustn't be.

    Returns:
        The manifest as saved.
    """
    experts_file = f"experts{variant}.safetensors"
    named = peft_names(expert_state)
    data = save({name: tensor.contiguous() for name, tensor in named.items()})
    with atomic_write(join(directory, experts_file)) as file:
        file.write(data)
    if check is not None:
        check()
    save_config(config, directory)
    manifest = EncodingManifest(
        base_model=base_model,
        num_passages=sum(part.num_passages for part in parts),
        num_sites=num_sites,
        num_experts=config.experts.num,
        rank=config.experts.rank,
        parts=tuple(parts),
        experts=ExpertsFile(experts_file, hashlib.sha256(data).hexdigest()),
        trained=trained,
    )
    if check is not None:
        check()
    manifest.save(directory)
    write_adapter_files(
        directory, config, experts_file=experts_file, experts_sha256=manifest.experts.sha256
    )
    return manifest


class Encoding:
    """An encoding opened for reading.

    Attributes:
        config: the config that it was trained with.
        manifest: its manifest.
    """

    def __init__(self, directory: str | Path, config: Config, manifest: EncodingManifest) -> None:
        """Takes what `Encoding.load` has read."""
        self.config = config
        self.manifest = manifest
        self._directory = str(directory)
        self._first_ids = np.array([part.first_id for part in manifest.parts], dtype=np.int64)
        self._open_parts: dict[int, npt.NDArray[np.float32]] = {}
        self._checked: set[str] = set()

    @classmethod
    def load(cls, run_dir: str | Path) -> "Encoding":
        """Opens `RUN/encoding`; weights and rows are read when they are asked for.

        Raises:
            RunError: there is no encoding, or its manifest can't be.
        """
        directory = encoding_dir(run_dir)
        manifest = EncodingManifest.load(directory)
        config_url = join(directory, CONFIG_FILE)
        if not exists(config_url):
            raise RunError(f"{config_url}: no such file; {_DAMAGED}")
        return cls(directory, harmless(load_saved_config(config_url)), manifest)

    def expert_state(self) -> dict[str, Tensor]:
        """Returns the expert weights for `ExpertPool.load_state_dict`.

        Raises:
            RunError: the file is missing or damaged.
        """
        url = join(self._directory, self.manifest.experts.file)
        try:
            data = read_bytes(url)
        except FileError as error:
            raise RunError(f"{error}; {_DAMAGED}") from error
        if hashlib.sha256(data).hexdigest() != self.manifest.experts.sha256:
            raise RunError(f"{url}: {_OTHER_SHA256}; {_DAMAGED}")
        try:
            state = pool_names(load(data))
        except SafetensorError as error:
            raise RunError(f"{url}: not a safetensors file ({error}); {_DAMAGED}") from error
        if wrong := names_not_finite(state.items()):
            raise RunError(f"{url}: {wrong[0]!r} holds numbers that aren't finite; {DIVERGED}")
        return state

    def check_base_model(self, base_model: BaseModel) -> None:
        """Checks that a base model is the one that the encoding was made with.

        Args:
            base_model: see `describe_base`.

        Raises:
            RunError: it has other weights, another tokenizer, or settings that compute otherwise.
        """
        trained_with = self.manifest.base_model
        chat = self.config.generation.prompt != "plain"
        difference = trained_with.difference(base_model, chat=chat)
        if difference is not None:
            raise RunError(
                f"{self._directory} was made with the base model {trained_with.path!r}; "
                f"{base_model.path!r} has {difference}: {remedy_for(trained_with, base_model)}, or "
                "run `polyprag encode` in a new RUN"
            )

    def rows(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Returns the routing rows of passages.

        Args:
            ids: (n,) passage ids, in any order, repeats allowed.

        Returns:
            (n, S, K) float32, in an array of its own.

        Raises:
            RunError: an id isn't in this encoding, or a part is missing or damaged.
        """
        wanted = np.asarray(ids, dtype=np.int64).reshape(-1)
        manifest = self.manifest
        outside = wanted[(wanted < 0) | (wanted >= manifest.num_passages)]
        if len(outside):
            raise RunError(
                f"passage {outside[0]} isn't in {self._directory}, which has the rows of "
                f"{manifest.num_passages} passages; if the corpus has grown since, `polyprag add "
                "RUN` trains the rows of the new ones"
            )
        part_of = np.searchsorted(self._first_ids, wanted, side="right") - 1
        positions = np.unique(part_of)
        if len(positions):
            self.check_part(int(positions[0]))  # before memory is taken for sizes that it says
        out = np.empty((len(wanted), manifest.num_sites, manifest.num_experts), dtype=np.float32)
        for position in positions:
            at = part_of == position
            out[at] = self._part(int(position))[wanted[at] - self._first_ids[position]]
        return out

    def check_part(self, position: int) -> None:
        """Makes sure that a part's file has the rows that the manifest says.

        Raises:
            RunError: it is missing or damaged.
        """
        self._part(position)

    def _part(self, position: int) -> npt.NDArray[np.float32]:
        if position not in self._open_parts:
            part = self.manifest.parts[position]
            url = join(self._directory, part.file)
            path = local_path(url)
            if path is None:
                rows, limit = load_rows(url, sha256=part.sha256).rows, _MAX_LOADED_PARTS
            else:
                self._check(url, part.sha256)
                rows, limit = self._map(path), _MAX_OPEN_PARTS
            expected = (part.num_passages, self.manifest.num_sites, self.manifest.num_experts)
            if rows.shape != expected:
                raise RunError(f"{url}: rows of shape {rows.shape}, not {expected}; {_DAMAGED}")
            while len(self._open_parts) >= limit:
                self._open_parts.pop(next(iter(self._open_parts)))
            self._open_parts[position] = rows
        return self._open_parts[position]

    def _map(self, path: str) -> npt.NDArray[np.float32]:
        try:
            return map_rows(path)
        except ValueError as error:
            raise RunError(f"{path}: not a file of routing rows ({error}); {_DAMAGED}") from error

    def _check(self, url: str, sha256: str) -> None:
        if url in self._checked:
            return
        if not exists(url):
            raise RunError(f"{url}: no such file; {_DAMAGED}")
        if sha256_of(url) != sha256:
            raise RunError(f"{url}: {_OTHER_SHA256}; {_DAMAGED}")
        self._checked.add(url)
