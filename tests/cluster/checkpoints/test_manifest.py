"""The checkpoint's manifest: what it refuses, and which run it lets continue."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cluster.checkpoints.manifest import (
    CheckpointManifest,
    RowsFile,
    StateFile,
    check_cursor,
    check_identity,
    identity_of,
)
from cluster.plan.phases import Phase
from cluster.plan.steps import plan_of
from polyprag.config import Config, GenerationConfig, TrainConfig
from polyprag.encoding.base import BaseModel
from polyprag.errors import ConfigError, RunError
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.stream.plan import Cursor, LaneCursor

ROWS = RowsFile(
    "rows-00003-step-00000007.safetensors",
    "b" * 64,
    20,
    step=7,
    num_rows=4,
    updates=9,
    untrained=1,
    mean_norm=2.5,
)


def corpus_of(*letters: str) -> CorpusManifest:
    parts = tuple(
        Partition(i, i, 1, f"part-{i:05d}-{letter * 12}.tar", 1, letter * 64, False, {})
        for i, letter in enumerate(letters)
    )
    return CorpusManifest(["x"], len(parts), 1, parts)


CORPUS = corpus_of("a", "b")


def manifest() -> CheckpointManifest:
    return CheckpointManifest(
        step=7,
        cursor=Cursor(0, 7, (LaneCursor(1, 2),)),
        world_size=2,
        identity=identity_of(Config(), CORPUS),
        experts=StateFile("experts-step-00000007.safetensors", "a" * 64, 10),
        phases=(Phase(0, 9, 0, 3, 4),),
        rows={3: ROWS},
        previous_step=5,
    )


def test_round_trip(tmp_path: Path) -> None:
    assert CheckpointManifest.load(str(tmp_path)) is None
    manifest().save(str(tmp_path))
    assert CheckpointManifest.load(str(tmp_path)) == manifest()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"phases": []},
        {
            "phases": [
                {
                    "first_step": -1,
                    "last_step": 9,
                    "first_epoch": 0,
                    "epochs": 3,
                    "num_partitions": 4,
                }
            ]
        },
        {"rows": {"3": {"file": "a"}}},
        {"unknown": 1},
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
    for corpus in (corpus_of("a", "c"), corpus_of("a"), corpus_of("c", "a", "b")):
        with pytest.raises(ConfigError, match="another corpus"):
            check_identity(manifest(), identity_of(config, corpus), "RUN")
    check_identity(manifest(), identity_of(config, corpus_of("a", "b", "c")), "RUN")
    for told in (
        GenerationConfig(date="2031-12-01"),
        GenerationConfig(instruction=""),
        GenerationConfig(thinking="template"),
    ):
        with pytest.raises(ConfigError, match=r"generation\.(date|instruction|thinking)="):
            check_identity(manifest(), identity_of(replace(config, generation=told), CORPUS), "RUN")


def test_a_checkpoint_of_before_goes_on_under_no_instruction_that_it_was_not_trained_with() -> None:
    before = manifest()
    for key in ("generation.date", "generation.instruction", "generation.thinking"):
        del before.identity[key]
    as_then = GenerationConfig(date="2031-12-01", instruction="", thinking="template")
    check_identity(before, identity_of(replace(Config(), generation=as_then), CORPUS), "RUN")
    for told in (replace(as_then, instruction="Sing."), replace(as_then, thinking="never")):
        with pytest.raises(
            ConfigError, match=r"trained with generation\.(instruction=''|thinking='t)"
        ):
            check_identity(before, identity_of(replace(Config(), generation=told), CORPUS), "RUN")


@pytest.mark.parametrize(
    ("style", "template", "is_told"),
    [("plain", "c" * 64, False), ("auto", None, False), ("auto", "c" * 64, True)],
)
def test_what_a_chat_template_is_told_matters_where_there_is_one(
    style: str, template: str | None, is_told: bool
) -> None:
    base = BaseModel("base", 2, 8, "a" * 64, "b" * 64, "d" * 64, template, {})
    config = replace(Config(), generation=GenerationConfig(prompt=style))
    saved = replace_fields(manifest(), identity=identity_of(config, CORPUS, base))
    told = GenerationConfig(prompt=style, instruction="Sing.", date="2031-12-01")
    now = identity_of(replace(config, generation=told), CORPUS, base)
    if not is_told:
        check_identity(saved, now, "RUN")
        return
    with pytest.raises(ConfigError, match=r"generation\.(date|instruction)"):
        check_identity(saved, now, "RUN")


def test_a_checkpoint_of_before_there_was_a_teacher_learnt_answers() -> None:
    before = manifest()
    for key in ("train.objective", "train.teacher_answers"):
        del before.identity[key]
    check_identity(before, identity_of(Config(), CORPUS), "RUN")
    for train in (TrainConfig(objective="both"), TrainConfig(teacher_answers="all")):
        with pytest.raises(ConfigError, match=r"train\.(objective='answers'|teacher_answers='mis)"):
            check_identity(before, identity_of(replace(Config(), train=train), CORPUS), "RUN")


def test_finished_is_what_has_done_its_last_phase() -> None:
    assert not manifest().is_finished
    done = msgspec.structs.replace(manifest(), step=9)
    assert done.is_finished and done.phase == Phase(0, 9, 0, 3, 4)
    assert done.names() == {ROWS.file, "experts-step-00000007.safetensors"}


def test_data_goes_on_where_the_checkpoint_says_or_not_at_all() -> None:
    config = Config()
    config = replace(
        config,
        data=replace(config.data, lanes=1, microbatch=3),
        train=replace(config.train, epochs=2),
        cluster=replace(config.cluster, workers=1),
    )
    plan = plan_of([9, 6], config, corpus_url="RUN/corpus")  # 5 steps an epoch
    # After six steps, one in the second epoch: three examples of whichever partition comes first.
    right = replace_fields(manifest(), step=6, cursor=Cursor(1, 1, (LaneCursor(0, 3),)))
    check_cursor(right, plan, "RUN")
    for wrong in (Cursor(1, 2, (LaneCursor(0, 6),)), Cursor(1, 1, (LaneCursor(0, 2),))):
        elsewhere = replace_fields(right, cursor=wrong)
        with pytest.raises(RunError, match=r"manifest\.json: the data of step 6 goes on .*delete"):
            check_cursor(elsewhere, plan, "RUN")
        # At its end nothing is read any more, and the next phase reads other data from its start.
        check_cursor(replace_fields(elsewhere, step=10), plan, "RUN")
        check_cursor(replace_fields(elsewhere, step=0), plan, "RUN")


def replace_fields(of: CheckpointManifest, **changed: Any) -> CheckpointManifest:
    return msgspec.structs.replace(of, **changed)
