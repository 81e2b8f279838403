"""The checkpoint's manifest: what it refuses, and which run it lets continue."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.checkpoint_manifest import (
    CheckpointManifest,
    StateFile,
    check_identity,
    identity_of,
)
from polyprag.config import Config
from polyprag.errors import ConfigError, RunError
from sharding.manifest import CorpusManifest
from sharding.plan import Cursor, LaneCursor

CORPUS = CorpusManifest(["x"], 0, 1, ())


def manifest() -> CheckpointManifest:
    return CheckpointManifest(
        step=7,
        cursor=Cursor(0, 7, (LaneCursor(1, 2),)),
        world_size=2,
        identity=identity_of(Config(), CORPUS),
        experts=StateFile("experts-step-00000007.safetensors", "a" * 64, 10),
        rows={3: StateFile("rows-00003-step-00000007.safetensors", "b" * 64, 20)},
    )


def test_round_trip(tmp_path: Path) -> None:
    assert CheckpointManifest.load(str(tmp_path)) is None
    manifest().save(str(tmp_path))
    assert CheckpointManifest.load(str(tmp_path)) == manifest()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"format": "other"},
        {"step": "x"},
        {"rows": []},
        {"cursor": {"epoch": -1, "step": 0, "lanes": []}},
        {"experts": {"file": "../../etc/passwd", "sha256": "a", "num_bytes": 1}},
    ],
)
def test_a_damaged_or_hostile_manifest_is_one_clear_error(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    manifest().save(str(tmp_path))
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunError, match=r"manifest\.json"):
        CheckpointManifest.load(str(tmp_path))


def test_cut_off_manifest_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": "polyprag-ch')
    with pytest.raises(RunError, match="delete"):
        CheckpointManifest.load(str(tmp_path))


def test_changed_identity_is_named() -> None:
    config = Config()
    check_identity(manifest(), identity_of(config, CORPUS), "RUN")
    longer = replace(config, train=replace(config.train, epochs=99, experts_lr=1e-4))
    check_identity(manifest(), identity_of(longer, CORPUS), "RUN")
    other = replace(config, experts=replace(config.experts, num=32))
    with pytest.raises(ConfigError, match=r"experts\.num=16.*32"):
        check_identity(manifest(), identity_of(other, CORPUS), "RUN")
    grown = CorpusManifest(["x"], 0, 1, ())
    identity = identity_of(config, grown) | {"corpus": ["c" * 64]}
    with pytest.raises(ConfigError, match="another corpus"):
        check_identity(manifest(), identity, "RUN")
