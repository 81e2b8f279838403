"""Merging and reading configs: what is accepted, what is refused and how the error helps."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.config import Config
from polyprag.config.files import (
    changed_settings,
    load_config,
    parse_override,
    read_yaml,
    save_config,
    to_yaml,
)
from polyprag.config.keys import flatten, key_types, nearest_key
from polyprag.config.safe_yaml import parse_mapping, parse_settings
from polyprag.config.shipped import shipped_configs
from polyprag.errors import ConfigError

WHOLE_CONFIGS = [n for n in shipped_configs() if not n.startswith("deepspeed/")]
DEEPSPEED_CONFIGS = [n for n in shipped_configs() if n.startswith("deepspeed/")]


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_defaults_are_the_dataclasses() -> None:
    assert load_config() == Config()


def test_a_merged_config_is_frozen_in_every_section() -> None:
    config = load_config(overrides=["train.epochs=2"])
    for of in (config, *vars(config).values()):
        name = dataclasses.fields(of)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(of, name, getattr(of, name))


def test_later_files_and_then_overrides_win(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", "train: {epochs: 2, seed: 5, rows_lr: 1e-2}\n")
    second = write(tmp_path / "b.yaml", "train:\n  epochs: 3\ndata:\n  lanes: 12\n")
    config = load_config([first, second], ["train.rows_lr=0.5", "data.lanes=6"])
    assert (config.train.epochs, config.train.seed) == (3, 5)
    assert (config.train.rows_lr, config.data.lanes) == (0.5, 6)


def test_a_budget_and_its_parts_count_as_they_are_given_last(tmp_path: Path) -> None:
    def wanted(*overrides: str, config: str = "llama-3.2-1b") -> tuple[int, int]:
        found = load_config([config], overrides, tmp_path).augment
        return found.wanted_qas, found.wanted_rewrites

    assert wanted() == (18, 0)
    assert wanted("augment.budget=10") == (9, 1)
    assert wanted("augment.budget=20", "augment.num_qas=5") == (5, 2)
    assert wanted("augment.budget=20", config="quickstart") == (18, 2)
    assert wanted("augment.num_qas=5") == (5, 0)
    save_config(load_config([], ["augment.num_qas=3", "augment.num_rewrites=1"]), tmp_path)
    assert load_config([], ["augment.budget=20"], tmp_path).augment.wanted_qas == 18
    assert load_config([], ["train.epochs=2"], tmp_path).augment.wanted_qas == 3
    (tmp_path / "own.yaml").write_text("augment:\n  budget: 10\n  num_qas: 4\n")
    assert wanted(config=str(tmp_path / "own.yaml")) == (4, 1)


def test_config_files_are_laid_over_the_saved_config(tmp_path: Path) -> None:
    save_config(load_config(overrides=["train.epochs=7"]), tmp_path)
    assert load_config(run_dir=tmp_path).train.epochs == 7
    assert load_config(overrides=["train.seed=1"], run_dir=tmp_path).train.epochs == 7
    other = write(tmp_path / "other.yaml", "train: {seed: 2}\n")
    both = load_config(other, run_dir=tmp_path).train
    assert (both.epochs, both.seed) == (7, 2)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: write(path, "train: {epochs: 99}\n")])
def test_nothing_in_the_working_directory_takes_a_shipped_configs_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = load_config("quickstart")
    assert expected.train.epochs == 8 and expected.model.path == "polyprag:tiny-base"
    make(tmp_path / "quickstart")
    assert load_config("quickstart") == expected
    if (tmp_path / "quickstart").is_file():
        assert load_config("./quickstart").train.epochs == 99


def test_run_directory_may_be_a_url() -> None:
    config = load_config(overrides=["experts.num=3", "model.path=org/name"])
    save_config(config, "memory://test-config-files/run")
    assert load_config(run_dir="memory://test-config-files/run") == config


@pytest.mark.parametrize("name", WHOLE_CONFIGS)
def test_shipped_config_is_usable_and_commented(name: str) -> None:
    config = load_config(name)
    if config.deepspeed.config is not None:
        assert read_yaml(config.deepspeed.config)
    text = shipped_configs()[name].read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert yaml.safe_load(text), "a config without a setting"


def test_every_kind_of_use_has_its_config() -> None:
    wanted = {
        "quickstart",
        "llama-3.2-1b",
        "qwen2.5-1.5b",
        "llama-3-8b",
        "smollm2",
        "wikipedia-21m",
        "prag-formats",
    }
    wanted |= {f"deepspeed/zero{stage}" for stage in (1, 2, 3)}
    wanted |= {f"encoder/{name}" for name in ("e5-base", "bge-base-en", "contriever", "dpr-nq")}
    assert wanted | {"cluster/local", "cluster/ray-address"} <= set(shipped_configs())


@pytest.mark.parametrize("name", DEEPSPEED_CONFIGS)
def test_deepspeed_configs_hold_keys_that_deepspeed_knows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    keys = read_yaml(name)
    assert set(keys) == {"zero_optimization"}
    DeepSpeedZeroConfig(**keys["zero_optimization"], stage=int(name[-1]))  # refuses unknown keys


@pytest.mark.parametrize(
    ("given_key", "nearest"),
    [
        ("train.epoch", "train.epochs"),
        ("expert.num", "experts.num"),
        ("data.lane", "data.lanes"),
        ("lanes", "data.lanes"),
        ("router.granularty", "router.granularity"),
    ],
)
def test_unknown_key_names_the_nearest_and_the_line(
    given_key: str, nearest: str, tmp_path: Path
) -> None:
    assert nearest_key(given_key) == nearest
    section, _, leaf = given_key.rpartition(".")
    text = f"# first line\n{section}:\n  {leaf}: 3\n" if section else f"# first\n\n{leaf}: 3\n"
    path = write(tmp_path / "c.yaml", text)
    with pytest.raises(ConfigError, match=rf"c\.yaml:3: unknown key .*did you mean {nearest}\?"):
        load_config(path)
    with pytest.raises(ConfigError, match=f"did you mean {nearest}"):
        load_config(overrides=[f"{given_key}=3"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=many", r"train\.epochs='many'.*whole number"),
        ("train.epochs=1.5", r"train\.epochs=1\.5.*whole number"),
        ("train.epochs=true", r"train\.epochs=True.*number"),
        ("train.epochs=", r"train\.epochs=None.*whole number"),
        ("train.rows_lr=true", r"train\.rows_lr=True.*number"),
        ("train.rows_lr=.nan", r"train\.rows_lr=nan.*finite"),
        ("train.epochs=0", r"train\.epochs=0.*at least 1"),
        ("router.relaxed_bernoulli=maybe", r"router\.relaxed_bernoulli='maybe'.*true or false"),
        ("router.gate=relu", r"router\.gate='relu'.*linear"),
        ("experts.targets=up_proj", r"experts\.targets='up_proj'.*\[a, b\]"),
        ("experts.num.x=3", r"unknown key experts\.num\.x"),
        ("train=3", r"train is a section; its keys are train\.epochs"),
        ("train.epochs", "section.key=value"),
        ("train.epochs=[1", "not valid YAML"),
        ("train.epochs=1\nb: 2", "isn't one value"),
        ("model.path=${oc.env:HOME}", r"model\.path: \$\{\.\.\.\} isn't allowed"),
        ("train.epochs=${train.seed}", r"isn't allowed"),
        ("train.epochs=???", r"missing value"),
        ("cluster.workers=100", r"cluster\.workers=100.*data\.lanes"),
    ],
)
def test_unusable_override_names_key_and_remedy(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=[override])


def test_text_overrides_are_taken_as_written() -> None:
    config = load_config(
        overrides=[
            "model.revision=12e4567",  # a float in YAML
            "model.path=007",
            "augment.base_url=http://127.0.0.1:8000/v1?a=b",
            "augment.model=null",
            "index.query_prefix=query: ",
        ]
    )
    assert (config.model.revision, config.model.path) == ("12e4567", "007")
    assert config.augment.base_url == "http://127.0.0.1:8000/v1?a=b"
    assert config.augment.model is None
    assert config.index.query_prefix == "query: "


def test_number_where_text_belongs_is_refused_in_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "model:\n  revision: 1234567\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:2: model\.revision must be text"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {path: '${oc.env:HOME}'}", r"x:1: \$\{\.\.\.\} isn't allowed"),
        ("'${oc.env:HOME}': 1", r"isn't allowed"),
        ("a: &a [1]\nb: *a", r"x:2: aliases \(\*a\)"),
        ("a: 1\nb: 2\na: 3", r"x:3: a is given twice"),
        ("a: !!python/object/apply:os.system ['true']", r"x:1: could not determine a constructor"),
        ("a: !!python/name:os.system", r"x:1: could not determine a constructor"),
        ("yes: 1", r"x:1: a key must be plain text"),
        ("? [a, b]\n: 1", "a key must be plain text"),
        ("- a\n- b", "mapping of sections"),
        ("just text", "mapping of sections"),
        ("a: [1", r"x:1: not valid YAML"),
        ("a: 1\n--- \nb: 2", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("a: 2020-13-45", r"x:1: month must be"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: '" + "x" * 300_000 + "'", "at most 64 KiB"),
    ],
)
def test_hostile_or_broken_yaml_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_mapping(text, where="x")
    with pytest.raises(ConfigError, match=message):
        parse_settings(text, where="x")


def test_empty_documents_and_sections_change_nothing(tmp_path: Path) -> None:
    for text in ("", "# only a comment\n", "train:\n  # epochs: 3\ndata: {}\n"):
        assert load_config(write(tmp_path / "c.yaml", text)) == Config()


@pytest.mark.parametrize("text", [b"\xff\xfe", b"train: {epochs: \x80}"])
def test_file_that_is_not_utf8_is_refused_by_name(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(text)
    with pytest.raises(ConfigError, match=r"c\.yaml: not UTF-8"):
        load_config(tmp_path / "c.yaml")


def test_missing_config_names_the_nearest_shipped_one() -> None:
    with pytest.raises(ConfigError, match="did you mean quickstart"):
        load_config("quickstrat")


def test_shell_urls_are_refused() -> None:
    from polyprag.errors import PolypragError

    with pytest.raises(PolypragError, match="refused"):
        load_config("pipe:cat /etc/passwd")


def test_plain_yaml_reads_as_a_safe_loader_reads_it() -> None:
    text = "a: {b: 1, c: [x, 2.5, null, true]}\nd: text\n"
    assert parse_mapping(text, where="x") == yaml.safe_load(text)


VALUES = {
    int: st.integers(min_value=1, max_value=1000),
    int | None: st.none() | st.integers(min_value=1, max_value=1000),
    float: st.floats(min_value=0, max_value=0.5, allow_subnormal=False),
    float | None: st.none() | st.floats(min_value=0, max_value=0.5, allow_subnormal=False),
    str: st.text(max_size=12),
    str | None: st.none() | st.text(max_size=12),
    bool: st.booleans(),
    list[str]: st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=3),
}


@settings(deadline=None)
@given(st.data())
def test_saved_config_is_read_back_equal(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(list(key_types())))
    value = data.draw(VALUES[key_types()[key]])
    section, leaf = key.split(".")
    try:
        changed = dataclasses.replace(getattr(Config(), section), **{leaf: value})
        config = dataclasses.replace(Config(), **{section: changed})
    except ConfigError:
        return  # not every value of the type is allowed
    text = to_yaml(config)
    if "${" in text or "???" in text:
        return
    rebuilt = flatten(Config())
    rebuilt.update({s.key: s.value for s in parse_settings(text, where="saved")})
    assert rebuilt == flatten(config)


@given(st.text(max_size=60))
def test_any_text_as_yaml_parses_or_is_a_config_error(text: str) -> None:
    try:
        assert isinstance(parse_mapping(text, where="x"), dict)
        parse_settings(text, where="x")
    except ConfigError as error:
        assert str(error).startswith("x:")


@given(st.sampled_from(list(key_types())), st.text(max_size=20))
def test_any_override_parses_or_is_a_config_error(key: str, value: str) -> None:
    try:
        setting = parse_override(f"{key}={value}")
    except ConfigError as error:
        assert key in str(error)
    else:
        assert setting.key == key


def test_a_place_that_is_named_from_another_directory_is_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    config = load_config([], ["model.path=base"], tmp_path / "run")
    save_config(config, tmp_path / "run")
    assert changed_settings(tmp_path / "run", config) == []
    other = load_config([], ["train.epochs=9"], tmp_path / "run")
    assert [change.partition(":")[0] for change in changed_settings(tmp_path / "run", other)] == [
        "train.epochs"
    ]
