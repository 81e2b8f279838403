"""What a stranger's run directory names outside of itself: nothing of it is used unasked."""

import json
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from polyprag.cli import main
from polyprag.config import Config, trust
from polyprag.config.files import load_config, save_config
from polyprag.errors import ConfigError
from polyprag.growth.extend import augment_settings
from polyprag.retrieval.building.index import build_index

SECRET = "AWS_SECRET_ACCESS_KEY"
ELSEWHERE = "http://stranger.example:8000/v1"


def polyprag(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def as_another_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Forgets whom the user trusts, and returns the file of the one who comes next."""

    def become(name: str) -> Path:
        directory = tmp_path / "home" / name
        monkeypatch.setenv("POLYPRAG_STATE_DIR", str(directory))
        monkeypatch.setattr(trust, "_given", set())
        return directory / "trusted.jsonl"

    become("first")
    return become


@pytest.fixture
def run(encoded_run: tuple[Path, Config], tmp_path: Path) -> Path:
    original, config = encoded_run
    directory = tmp_path / "run"
    shutil.copytree(original, directory)
    save_config(config, directory)
    return directory


class Embedder:
    """Answers /v1/embeddings on the loopback interface."""

    def __init__(self, serve_endpoint: Callable[..., Any]) -> None:
        self.served = serve_endpoint("/v1/embeddings", self._answer)
        self.url: str = self.served.url

    def _answer(self, body: Any) -> tuple[int, Any]:
        data = [
            {"index": i, "embedding": [1.0, float(len(text) % 7), float(len(text) % 3)]}
            for i, text in enumerate(body["input"])
        ]
        return 200, {"object": "list", "data": data}

    @property
    def seen(self) -> int:
        return len(self.served.requests)


@pytest.fixture
def embedder(serve_endpoint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Embedder:
    monkeypatch.setenv(SECRET, "the-secret")
    monkeypatch.setenv("POLYPRAG_TEST_KEY", "a-key")
    return Embedder(serve_endpoint)


def strangers_index(run: Path, config: Config, url: str, key: str) -> None:
    index = replace(
        config.index, encoder="openai", encoder_path="model", base_url=url, api_key_env=key
    )
    build_index(run, replace(config, index=index))


def test_an_encoder_file_that_names_a_host_and_a_secret_sends_nothing(
    run: Path,
    encoded_run: tuple[Path, Config],
    embedder: Embedder,
    as_another_user: Callable[[str], Path],
) -> None:
    strangers_index(run, encoded_run[1], embedder.url, SECRET)
    before = embedder.seen
    state = as_another_user("victim")
    asked = ("ask", run, "Where was Ada Smith born?", "--json", "retrieval.method=dense")
    refused = polyprag(*asked)
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    for part in ("encoder.json", embedder.url, SECRET, "127.0.0.1", "--trust-run"):
        assert part in line, line
    # Nor does trust in the run cover a key that isn't for such endpoints.
    trusted = polyprag(*asked, "--trust-run")
    assert trusted.exit_code == 2 and SECRET in trusted.stderr
    assert embedder.seen == before and not state.exists()
    # BM25 asks nobody.
    assert polyprag("ask", run, "Where was Ada Smith born?").exit_code == 0
    assert embedder.seen == before


def test_what_the_user_names_is_asked_and_remembered(
    run: Path,
    encoded_run: tuple[Path, Config],
    embedder: Embedder,
    as_another_user: Callable[[str], Path],
) -> None:
    strangers_index(run, encoded_run[1], embedder.url, "POLYPRAG_TEST_KEY")
    asked = ("ask", run, "Where was Ada Smith born?", "retrieval.method=dense")
    as_another_user("by name")
    named = (f"index.base_url={embedder.url}", "index.api_key_env=POLYPRAG_TEST_KEY")
    assert polyprag(*asked, named[0]).exit_code == 2  # with the default key: another endpoint
    assert polyprag(*asked, *named).exit_code == 0
    assert polyprag(*asked).exit_code == 0
    state = as_another_user("by --trust-run")
    assert polyprag(*asked).exit_code == 2
    assert polyprag(*asked, "--trust-run").exit_code == 0
    assert polyprag(*asked).exit_code == 0
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    told = {tuple(json.loads(line).values()) for line in state.read_text().splitlines()}
    assert told == {("endpoint", f"{embedder.url} $POLYPRAG_TEST_KEY")}


def test_whoever_builds_an_index_goes_on_asking_its_endpoint(
    run: Path, embedder: Embedder, as_another_user: Callable[[str], Path]
) -> None:
    settings = (
        "index.encoder=openai",
        "index.encoder_path=model",
        f"index.base_url={embedder.url}",
    )
    assert polyprag("index", run, *settings).exit_code == 0
    seen = embedder.seen
    assert polyprag("ask", run, "Ada?", "retrieval.method=dense").exit_code == 0
    assert embedder.seen > seen
    as_another_user("somebody else")
    refused = polyprag("index", run, "index.factory=Flat")
    assert refused.exit_code == 2 and f"index.base_url={embedder.url}" in refused.stderr


@pytest.mark.parametrize(
    ("command", "settings", "named"),
    [
        (("encode",), ["cluster.address=stranger.example:6379"], "stranger.example"),
        (("index",), ["cluster.address=stranger.example:6379"], "stranger.example"),
        (
            ("encode",),
            [f"log.mlflow_uri={ELSEWHERE}", "log.sinks=[mlflow]"],
            "log.mlflow_uri",
        ),
        (("encode",), ["log.wandb_entity=stranger", "log.sinks=[wandb]"], "log.wandb_entity"),
        (("encode",), ["deepspeed.config=/tmp/stranger.yaml"], "deepspeed.config"),
        (
            ("augment",),
            ["augment.backend=openai", "augment.model=m", f"augment.base_url={ELSEWHERE}"],
            "augment.base_url",
        ),
        (
            ("augment",),
            ["augment.backend=openai", "augment.model=m", f"augment.api_key_env={SECRET}"],
            SECRET,
        ),
        (
            ("remove", "--ids", "1", "--yes"),
            ["index.encoder=openai", "index.encoder_path=m", f"index.base_url={ELSEWHERE}"],
            "index.base_url",
        ),
    ],
)
def test_a_runs_config_alone_reaches_nothing(
    run: Path,
    as_another_user: Callable[[str], Path],
    command: tuple[str, ...],
    settings: list[str],
    named: str,
) -> None:
    save_config(load_config([run / "config.yaml"], settings), run)
    before = (run / "config.yaml").read_bytes()
    refused = polyprag(command[0], run, *command[1:])
    assert refused.exit_code == 2, refused.output
    (line,) = refused.stderr.splitlines()
    assert named in line and "config.yaml:" in line and "--trust-run" in line
    # The same file named as if it were the user's own is no more his.
    if command[0] != "remove":
        again = polyprag(command[0], run, *command[1:], "--config", run / "config.yaml")
        assert again.exit_code == 2 and named in again.stderr
    assert (run / "config.yaml").read_bytes() == before
    # Commands that have no use for it work, without it.
    kept = load_config(run_dir=run, uses=())
    assert trust.harmless(kept) == kept
    assert polyprag("config", "show", "--run", run).exit_code == 0
    # Given by the user it counts, now and later.
    load_config(None, settings, run)
    load_config(run_dir=run)


def test_the_cache_of_a_remote_run_is_the_users(as_another_user: Callable[[str], Path]) -> None:
    url = "memory://test-trust/run"
    save_config(load_config(overrides=["data.cache_dir=/home/victim"]), url)
    with pytest.raises(ConfigError, match=r"config.yaml:\d+: data.cache_dir=/home/victim"):
        load_config(run_dir=url)
    assert load_config(None, ["data.cache_dir=/mine"], url).data.cache_dir == "/mine"
    assert load_config(run_dir=url, uses=()).data.cache_dir is None


def test_a_manifest_that_names_an_endpoint_for_new_passages_isnt_followed(
    as_another_user: Callable[[str], Path],
) -> None:
    recorded = {"backend": "openai", "model": "m", "endpoint": ELSEWHERE}
    with pytest.raises(ConfigError, match=r"stranger\.example"):
        augment_settings(Config(), recorded)


def test_a_list_of_the_trusted_that_others_can_write_is_refused(
    run: Path, as_another_user: Callable[[str], Path]
) -> None:
    state = as_another_user("careless")
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"setting": "cluster.address", "value": "x:1"}) + "\n")
    state.chmod(0o666)
    save_config(load_config([run / "config.yaml"], ["cluster.address=x:1"]), run)
    with pytest.raises(ConfigError, match=r"trusted\.jsonl: others can write it"):
        load_config(run_dir=run)
    state.chmod(0o600)
    assert load_config(run_dir=run).cluster.address == "x:1"


@pytest.mark.parametrize(
    ("place", "given"),
    [
        ("memory://given/run", ["data.cache_dir=made-later"]),
        ("run", ["log.sinks=[mlflow]", "log.mlflow_uri=http://tracking.example"]),
        ("run", ["log.mlflow_uri=http://tracking.example"]),  # before there is a use for it
        (
            "run",
            ["index.encoder=openai", "index.encoder_path=m", "index.base_url=http://e.example"],
        ),
        ("run", ["augment.backend=openai", "augment.model=m", "augment.base_url=http://a.example"]),
        ("run", ["deepspeed.config=mine.yaml"]),
        ("run", ["cluster.address=head:6379"]),
    ],
)
def test_what_is_given_to_one_command_counts_for_all_later_ones(
    as_another_user: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    given: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("zero_optimization: {}\n")
    run = place if "://" in place else str(tmp_path / place)
    config = load_config((), given, run, uses=(trust.ADDRESS,), keeps_unused=True)  # as `prepare`
    save_config(config, run)
    Path("made-later").mkdir()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    monkeypatch.setattr(trust, "_given", set())  # another process
    later = load_config((), ["log.sinks=[mlflow]"] if "mlflow" in given[-1] else [], run)
    assert trust.all_outside(later)
    as_another_user("stranger")
    with pytest.raises(ConfigError, match="you haven't given it"):
        load_config((), ["log.sinks=[mlflow]"] if "mlflow" in given[-1] else [], run)


def test_a_directory_of_a_shipped_configs_name_takes_no_place_of_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deepspeed" / "zero2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    save_config(load_config((), ["deepspeed.config=deepspeed/zero2"], run), run)
    assert load_config(run_dir=run).deepspeed.config == "deepspeed/zero2"


def test_a_shipped_deepspeed_config_needs_no_trust(
    run: Path, as_another_user: Callable[[str], Path]
) -> None:
    save_config(load_config([run / "config.yaml"], ["deepspeed.config=deepspeed/zero3"]), run)
    assert load_config(run_dir=run).deepspeed.config == "deepspeed/zero3"


def test_settings_are_layered_and_what_changes_is_told(run: Path, tmp_path: Path) -> None:
    save_config(load_config([run / "config.yaml"], ["train.epochs=7", "index.bm25_b=0.5"]), run)
    part = tmp_path / "part.yaml"
    part.write_text("index: {bm25_k1: 1.1, bm25_b: 0.6}\n")
    built = polyprag("index", run, "--config", part, "index.bm25_b=0.7")
    assert built.exit_code == 0, built.output
    told = [line for line in built.stderr.splitlines() if " -> " in line]
    assert told == [
        f"{run}: index.bm25_k1: 0.9 -> 1.1",
        f"{run}: index.bm25_b: 0.5 -> 0.7",
    ]
    saved = load_config(run_dir=run)
    assert (saved.train.epochs, saved.index.bm25_k1, saved.index.bm25_b) == (7, 1.1, 0.7)


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        ("augment", "augment.num_qas=30"),  # the passages were trained with others
        ("encode", "train.experts_lr=0"),
        ("train-more", "train.experts_lr=0"),
    ],
)
def test_settings_of_a_refused_command_are_not_told(run: Path, command: str, setting: str) -> None:
    before = (run / "config.yaml").read_bytes()
    refused = polyprag(command, run, setting)
    assert refused.exit_code == 2, refused.output
    assert " -> " not in refused.stderr
    assert (run / "config.yaml").read_bytes() == before


def test_a_job_is_told_what_its_submitter_trusts(
    run: Path, as_another_user: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[str]] = []

    class Server:
        """Stands for a cluster's job server."""

        address = "http://127.0.0.1:1"

        def __init__(self, address: str | None) -> None:
            pass

        def submit(self, name: str, run: str, words: list[str], **_: Any) -> Any:
            sent.append(words)
            return SimpleNamespace(id="job-1", status="PENDING"), True

    monkeypatch.setattr("cluster.jobs.client.Jobs", Server)
    assert polyprag("submit", "encode", run).exit_code == 0
    assert sent == [[]]  # nothing is named, and nothing trusted
    save_config(load_config([run / "config.yaml"], ["cluster.address=head:6379"]), run)
    refused = polyprag("submit", "encode", run)
    assert refused.exit_code == 2 and "cluster.address=head:6379" in refused.stderr
    assert len(sent) == 1
    assert polyprag("submit", "encode", run, "cluster.address=head:6379").exit_code == 0
    assert polyprag("submit", "encode", run).exit_code == 0
    assert sent[1:] == [["cluster.address=head:6379", "--trust-run"], ["--trust-run"]]
