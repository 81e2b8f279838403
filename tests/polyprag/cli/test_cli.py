"""The command line as its users meet it: arguments, output, errors, exit status, start-up time."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from polyprag import __version__
from polyprag.cli import main
from polyprag.cli.arguments import split_overrides
from polyprag.cli.index import faiss_conflict
from polyprag.cli.main import COMMANDS
from polyprag.config.files import load_config
from polyprag.config.shipped import shipped_configs
from polyprag.errors import RunError
from sharding.storage.lease import take

HEAVY = ("torch", "numpy", "ray", "deepspeed", "transformers", "faiss", "sklearn", "webdataset")


def polyprag(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def all_commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [path]
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        inner = isinstance(command, click.Group)
        found += all_commands(command, (*path, name)) if inner else [(*path, name)]
    return found


@pytest.fixture
def passages(tmp_path: Path) -> Path:
    path = tmp_path / "passages.jsonl"
    lines = [
        {"id": f"p{i}", "title": f"Person {i}", "text": f"Person {i} (born 19{i:02}) is a singer."}
        for i in range(10)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("command", all_commands(main), ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_explains_itself(command: tuple[str, ...], option: str) -> None:
    result = polyprag(*command, option)
    assert result.exit_code == 0
    assert "Usage:" in result.output
    if command and command[-1] not in ("config", "list"):
        assert f"  polyprag {' '.join(command)} " in result.output, "help without an example"


@pytest.mark.parametrize("command", all_commands(main), ids=" ".join)
def test_help_fits_into_80_columns(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*command, "--help"], terminal_width=80)
    assert [line for line in result.output.splitlines() if len(line) > 80] == []


def test_the_commands_stand_under_what_they_are_for() -> None:
    text = polyprag("--help").stdout
    titles = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert titles[:2] == ["Options:", "From passages to answers:"] and len(titles) == 7
    assert "..." not in text.partition("From passages")[2], "a first line that is cut"
    for name in COMMANDS:
        assert text.count(f"\n  {name} ") == 1


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["evalaute"], "evaluate"),
        (["Encode"], "encode"),
        (["jobs", "lst"], "list"),
        (["config", "valdiate"], "validate"),
    ],
)
def test_a_mistyped_command_is_answered_with_the_nearest(typed: list[str], meant: str) -> None:
    result = polyprag(*typed)
    assert result.exit_code == 2 and f"Did you mean {meant}?" in result.stderr


def test_help_answers_in_under_half_a_second_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from polyprag.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    seconds = []
    for _ in range(3):
        before = os.times()
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        after = os.times()
        assert "heavy: []" in run.stdout, run.stderr
        # CPU time: on a busy machine the clock on the wall measures the other programs.
        children = (after.children_user, after.children_system)
        seconds.append(sum(children) - before.children_user - before.children_system)
    assert min(seconds) < 0.5


def test_version() -> None:
    assert polyprag("--version").output == f"polyprag {__version__}\n"


def test_prepare_then_augment_save_their_settings_and_name_the_next_step(
    passages: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = polyprag("prepare", run, passages, "--config", "quickstart", "data.partition_size=4")
    assert result.exit_code == 0, result.output
    assert "10 passages in 3 partitions" in result.output
    assert f"next: polyprag augment {run}" in result.output
    config = load_config(run_dir=run)
    assert (config.data.partition_size, config.data.lanes) == (4, 4)

    result = polyprag("augment", run, "augment.num_qas=2")
    assert result.exit_code == 0, result.output
    assert load_config(run_dir=run).augment.num_qas == 2
    manifest = json.loads((run / "corpus" / "manifest.json").read_text())
    assert all(partition["augmented"] for partition in manifest["partitions"])

    again = polyprag("prepare", run, passages)  # the saved partition size holds
    assert again.exit_code == 0, again.output


def test_json_gives_one_object_that_says_what_the_text_says(passages: Path, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    polyprag("prepare", run, passages, "--config", "quickstart", "data.partition_size=4")
    augmented = json.loads(polyprag("augment", run, "--json").stdout)
    assert augmented["num_passages"] == 10 and augmented["num_without_augmentation"] == 0
    indexed = json.loads(polyprag("index", run, "--json").stdout)
    assert indexed == {
        "index": f"{run}/index",
        "num_passages": 10,
        "num_waiting": 0,
        "num_segments": 1,
        "has_rows": False,
    }
    shown = json.loads(polyprag("config", "show", "--run", run, "--json").stdout)
    assert shown["data"]["partition_size"] == 4


def test_prepare_reports_what_it_skipped(passages: Path, tmp_path: Path) -> None:
    with passages.open("a") as file:
        file.write('{"id": "bad", "title": "x", "text": ""}\n')
    stopped = polyprag("prepare", tmp_path / "run", passages)
    assert stopped.exit_code == 2
    assert f"error: {passages}:11:" in stopped.stderr
    assert not (tmp_path / "run" / "config.yaml").exists()
    skipped = polyprag("prepare", tmp_path / "run", passages, "--on-error", "skip")
    assert skipped.exit_code == 0, skipped.output
    assert "skipped 1 passage: " in skipped.output


def test_user_errors_are_one_line_on_stderr_with_status_2(tmp_path: Path) -> None:
    result = polyprag("augment", tmp_path / "nothing")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode"], "Missing argument 'RUN'"),
        (["encode", "train.epochs=2"], "RUN is missing"),
        (["encode", "run", "epochs=2"], "did you mean train.epochs=2?"),
        (["encode", "run", "train=2"], "lacks the key's section"),
        (["encode", "run", "extra"], "unexpected argument 'extra'"),
        (["encode", "run", "train.epoch=2"], "did you mean train.epochs?"),
        (["encode", "run", "--config", "lama-3-8b"], "did you mean llama-3-8b?"),
        (["config", "validate", "deepspeed.config=deepspeed/zero9"], "did you mean deepspeed/zero"),
        (["prepare", "run"], "name at least one passage file"),
        (["prepare", "run", "lanes=2"], "did you mean data.lanes=2?"),
        (["prepare", "run", "no-such-file.jsonl"], "no-such-file.jsonl"),
        (["ask", "run"], "name at least one question"),
        (["ask", "run", "  "], "a question is empty"),
        (["ask", "run", "Who?", "--mode", "open"], "'open' is not one of"),
        (["ask", "run", "Who?", "--top-k", "0"], "x>=1"),
        (["ask", "run", "Who?", "answering.abstain=of"], "one of never, tell, refuse"),
        (["ask", "run", "Who?", "answering.threshold=2"], "at most 1"),
        (["calibrate", "run"], "Missing option '--results'"),
        (["calibrate", "run", "--results", "r", "--f1", "2"], "2.0 is not in the range"),
        (["calibrate", "run", "--results", "r", "--f1", "1", "--coverage", "1"], "not both"),
        (["calibrate", "run", "--results", "no-dir"], "no-dir/evaluation.json"),
        (["evaluate", "run"], "Missing option '--questions'"),
        (["evaluate", "run", "--questions", "q", "--out", "o", "--methods", "ploy"], "'poly'"),
        (["config", "show", "--run", "no-run"], "no-run has no config.yaml"),
        (["config", "copy", "quickstrat"], "choose one of"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_mistaken_arguments_get_a_remedy(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = polyprag(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == [], "a mistake left files behind"


def test_interrupt_ends_with_130_and_says_how_to_continue(
    passages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sharding.ingest.prepare.prepare", interrupted)
    result = polyprag("prepare", tmp_path / "run", passages)
    assert result.exit_code == 130
    assert "run the same command again to continue" in result.stderr


def test_full_disk_is_no_traceback_and_a_bug_is_one(
    passages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "runs/a")

    monkeypatch.setattr("sharding.ingest.prepare.prepare", full)
    result = polyprag("prepare", tmp_path / "run", passages)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        2,
        "error: runs/a: No space left on device",
    )

    def bug(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sharding.ingest.prepare.prepare", bug)
    assert isinstance(polyprag("prepare", tmp_path / "run", passages).exception, ZeroDivisionError)


def test_encode_hands_the_merged_config_to_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: dict[str, Any] = {}
    job = types.ModuleType("cluster.ray.driver")
    job.encode = lambda run, config, lease, before_saving: called.update(  # type: ignore[attr-defined]
        run=run, config=config, lease=lease
    )
    (tmp_path / "corpus").mkdir()
    monkeypatch.setitem(sys.modules, "cluster.ray.driver", job)
    made = SimpleNamespace(
        num_passages=5, num_experts=4, rank=2, trained=SimpleNamespace(steps=7, epochs=9)
    )
    monkeypatch.setattr("polyprag.encoding.manifest.EncodingManifest.load", lambda _: made)
    arguments = [tmp_path, "--config", "llama-3-8b", "--config", "cluster/local", "train.epochs=9"]
    result = polyprag("encode", *arguments)
    assert result.exit_code == 0, result.output
    assert "5 passages encoded in 7 steps" in result.output
    assert json.loads(polyprag("encode", *arguments, "--json").stdout)["steps"] == 7
    assert called["run"] == str(tmp_path)
    assert called["lease"] == 2
    assert called["config"] == load_config(["llama-3-8b", "cluster/local"], ["train.epochs=9"])
    assert f"next: polyprag index {tmp_path}" in result.output


@pytest.mark.parametrize("command", ["augment", "encode", "train-more", "add", "remove", "index"])
def test_commands_that_change_a_run_are_refused_while_another_works_on_it(
    tmp_path: Path, command: str
) -> None:
    run, source = tmp_path / "run", tmp_path / "p.jsonl"
    source.write_text('{"id": "a", "title": "t", "text": "Some text."}\n')
    assert polyprag("prepare", run, source).exit_code == 0
    before = sorted(path for path in run.rglob("*") if path.parent.name != "lease")
    with take(run / "lease", purpose="encode"):
        arguments = ["--ids", "0", "--yes"] if command == "remove" else []
        refused = polyprag(command, run, *arguments)
    assert refused.exit_code == 2 and "in use: encode by " in refused.stderr
    assert sorted(path for path in run.rglob("*") if path.parent.name != "lease") == before


class StubAnswerer:
    """Stands in for a loaded model: every answer is `Lima`, from one passage and two experts."""

    asked: tuple[Any, ...] = ()
    index: Any = None
    logprobs: tuple[float, ...] | None = None  # with some, the answers are judged
    judge = SimpleNamespace(note=lambda mode, *, top_k: None)

    @classmethod
    def open(cls, run_dir: str, config: Any, *, modes: list[str]) -> "StubAnswerer":
        if "missing" in run_dir:
            raise RunError("no index: run `polyprag index RUN` first")
        return cls()

    def answer(self, questions: list[str], *, mode: Any, k: int | None) -> list[Any]:
        from polyprag.answering.answer import Answer, Latency
        from polyprag.answering.trust.confidence import Evidence, Rule
        from polyprag.retrieval.results import Hits
        from sharding.corpus.passages import Passage

        StubAnswerer.asked = (questions, mode, k)
        hits = Hits(
            ids=np.array([4]),
            scores=np.array([1.5], dtype=np.float32),
            rows=None,
            passages=(Passage(id=4, key="k4", title="Peru", text="Its capital\nis Lima."),),
        )
        gates = np.array([[3.0, -1.0], [-3.0, 1.0]], dtype=np.float32)
        poly = mode == "poly"
        latency = Latency(retrieve_ms=1.0, mix_ms=2.0, generate_ms=3.0)
        found, mixture = hits if mode != "closed" else None, gates if poly else None
        evidence = trust = None
        if self.logprobs is not None:
            evidence = Evidence.of(self.logprobs, has_passages=True, match=0.5)
            trust = Rule().judge(evidence)
        return [Answer("Lima", mode, found, mixture, latency, evidence, trust) for _ in questions]


@pytest.fixture
def stub_answerer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyprag.answering.answerer.Answerer", StubAnswerer)


@pytest.mark.usefixtures("stub_answerer")
def test_ask_prints_a_json_line_for_each_question() -> None:
    result = polyprag(
        "ask", "run", "Capital of Peru?", "x=1?", "--json", "--top-k", "2", "train.seed=3"
    )
    assert result.exit_code == 0, result.output
    assert StubAnswerer.asked == (["Capital of Peru?", "x=1?"], "poly", 2)
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["answer"], first["mode"], second["question"]) == ("Lima", "poly", "x=1?")
    assert first["passages"] == [
        {"id": 4, "key": "k4", "title": "Peru", "text": "Its capital\nis Lima.", "score": 1.5}
    ]
    assert first["experts"] == [0.75, 0.25]  # mean |gate| over two sites, as shares
    assert first["latency_ms"] == 6.0


@pytest.mark.usefixtures("stub_answerer")
def test_ask_shows_answer_and_passages_and_where_asked_the_experts() -> None:
    plain = polyprag("ask", "run", "Capital of Peru?").stdout.splitlines()
    assert plain[:2] == ["Capital of Peru?", "  Lima"]
    assert "1.500  Peru: Its capital is Lima." in plain[2]
    assert plain[3].startswith("  poly, ")
    lines = polyprag("ask", "run", "Capital of Peru?", "--verbose").stdout.splitlines()
    assert lines[3].startswith("  mixture: a bar for each expert's weight")
    assert [line.strip() for line in lines[4:6]] == ["site   1/2 █▃", "site   2/2 █▃"]
    assert lines[:3] + lines[6:] == plain
    closed = polyprag("ask", "run", "Capital of Peru?", "--mode", "closed", "--verbose").stdout
    assert "site" not in closed and "Peru:" not in closed


@pytest.mark.usefixtures("stub_answerer")
def test_ask_tells_which_answers_not_to_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(polyprag("ask", "run", "Q?", "--json").stdout)["trusted"] is None
    monkeypatch.setattr(StubAnswerer, "logprobs", (-0.1, -0.01))
    lines = polyprag("ask", "run", "Q?").stdout.splitlines()
    assert lines[1] == "  Lima" and "trust" not in lines[2]
    assert lines[-2] == "  poly, 6 ms, confidence 0.45"  # exp(-0.1) / 2
    monkeypatch.setattr(StubAnswerer, "logprobs", (-0.1, -2.0))
    lines = polyprag("ask", "run", "Q?").stdout.splitlines()
    assert lines[1:3] == ["  Lima", "  don't trust this answer: the model isn't sure of it"]
    told = json.loads(polyprag("ask", "run", "Q?", "--json").stdout)
    assert (told["answer"], told["trusted"], told["calibrated"]) == ("Lima", False, False)
    assert told["reason"] == "the model isn't sure of it"
    assert told["confidence"] == pytest.approx(0.5 * np.exp(-2.0))
    assert told["evidence"]["min_logprob"] == -2.0 and told["evidence"]["match"] == 0.5


@pytest.mark.usefixtures("stub_answerer")
def test_ask_gives_no_answer_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = "answering.abstain=refuse"
    monkeypatch.setattr(StubAnswerer, "logprobs", (-2.0,))
    shown = polyprag("ask", "run", "Q?", refuse).stdout
    assert "  no answer is given: the model isn't sure of it" in shown.splitlines()
    assert "\n  Lima\n" not in shown
    told = json.loads(polyprag("ask", "run", "Q?", "--json", refuse).stdout)
    assert told["answer"] is None and told["trusted"] is False
    monkeypatch.setattr(StubAnswerer, "logprobs", (-0.1,))
    assert json.loads(polyprag("ask", "run", "Q?", "--json", refuse).stdout)["answer"] == "Lima"


@pytest.mark.usefixtures("stub_answerer")
def test_ask_says_why_a_calibration_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = SimpleNamespace(note=lambda mode, *, top_k: f"{mode} and {top_k} don't fit")
    monkeypatch.setattr(StubAnswerer, "judge", judge)
    asked = ("ask", "run", "Q?", "--top-k", "2", "--json")
    assert polyprag(*asked).stderr == "note: run: poly and 2 don't fit\n"
    assert polyprag(*asked, "answering.abstain=never").stderr == ""


@pytest.mark.usefixtures("stub_answerer")
def test_ask_lets_no_control_characters_through_to_the_terminal() -> None:
    result = polyprag("ask", "run", "Capital\x1b[2J of [red]Peru[/red]?")
    assert "\x1b" not in result.stdout
    assert result.stdout.startswith("Capital\\x1b[2J of [red]Peru[/red]?\n")


@pytest.mark.usefixtures("stub_answerer")
def test_ask_without_index_says_which_stage_makes_it() -> None:
    result = polyprag("ask", "missing", "Capital of Peru?")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: no index: run `polyprag index RUN` first\n"


@pytest.mark.usefixtures("stub_answerer")
def test_ask_notes_on_stderr_that_the_index_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    from polyprag.retrieval.freshness import Freshness

    index = SimpleNamespace(freshness=Freshness(num_newer=1200, hidden=(3,)))
    monkeypatch.setattr(StubAnswerer, "index", index)
    result = polyprag("ask", "run", "Capital of Peru?", "--json")
    assert json.loads(result.stdout)["answer"] == "Lima"
    assert result.stderr == (
        "note: run: 1,200 passages of the corpus aren't in the index yet and 1 removed ones still "
        "lie in its files; run `polyprag index RUN`\n"
    )


def test_evaluate_passes_its_options_on_and_prints_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: dict[str, Any] = {}

    def stub(run: str, config: Any, **options: Any) -> dict[str, Any]:
        called.update(options, run=run)
        with options["show"](2, "evaluating", unit="questions") as advance:
            advance(2, "poly")
        score = {"f1": 0.5, "em": 0.25, "contains": 1.0, "ci95": [0.4, 0.61], "n": 2}
        return {"poly": score | {"latency_ms_p50": 10.4, "latency_ms_p95": None}}

    monkeypatch.setattr("polyprag.evaluation.run.evaluate", stub)
    result = polyprag(
        "evaluate", "run", "--questions", "q.jsonl", "--out", tmp_path, "--methods", "poly,closed",
        "--gold-passages", "--limit", "2", "--top-k", "1",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    del called["show"]
    assert called == {
        "run": "run",
        "questions_path": "q.jsonl",
        "methods": ("poly", "closed"),
        "out_dir": str(tmp_path),
        "gold_passages": True,
        "limit": 2,
        "top_k": 1,
    }
    row = next(line for line in result.stdout.splitlines() if "poly" in line)
    expected = ["poly", "50.0", "40.0-61.0", "100.0", "-", "25.0", "2", "10", "-"]
    assert row.split() == expected


def test_config_commands_show_validate_copy_and_list(tmp_path: Path) -> None:
    shown = polyprag("config", "show", "--config", "quickstart", "train.epochs=9")
    path = tmp_path / "shown.yaml"
    path.write_text(shown.stdout)
    assert load_config(path) == load_config("quickstart", ["train.epochs=9"])

    assert "ok: 64 examples a step (4 lanes of 16)" in polyprag("config", "validate", path).output
    path.write_text("train: {epochs: 0}\n")
    assert polyprag("config", "validate", path).exit_code == 2

    copied = tmp_path / "mine.yaml"
    assert polyprag("config", "copy", "llama-3.2-1b", copied).exit_code == 0
    assert copied.read_bytes() == shipped_configs()["llama-3.2-1b"].read_bytes()
    again = polyprag("config", "copy", "llama-3.2-1b", copied)
    assert again.exit_code == 2 and "--force" in again.stderr
    assert polyprag("config", "copy", "quickstart", copied, "--force").exit_code == 0

    listed = polyprag("config", "list").output.splitlines()
    assert [line.split()[0] for line in listed] == list(shipped_configs())


def test_overrides_are_told_from_paths_and_questions() -> None:
    plain = ["a.jsonl", "./a.b=c", "s3://b/k.x=1/p.tsv", "Is x=1?", "x=1", "a. b=3"]
    assert split_overrides([*plain, "a.b=c", "train.epochs=", "x.y.z=1=2"]) == (
        plain,
        ["a.b=c", "train.epochs=", "x.y.z=1=2"],
    )


def test_commands_choices_are_the_method_s_modes() -> None:
    from polyprag.cli.ask import command

    (mode,) = [option for option in command.params if option.name == "mode"]
    assert list(mode.type.choices) == ["closed", "rag", "poly", "combine", "routed"]
    assert set(COMMANDS) == {
        "prepare",
        "augment",
        "plan",
        "status",
        "checkpoint",
        "submit",
        "jobs",
        "encode",
        "add",
        "remove",
        "train-more",
        "teach",
        "inspect",
        "index",
        "distill",
        "ask",
        "serve",
        "export",
        "questions",
        "evaluate",
        "report",
        "calibrate",
        "verify",
        "config",
    }


def test_two_builds_of_faiss_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(*names: str) -> None:
        found = [types.SimpleNamespace(metadata={"Name": name}) for name in names]
        monkeypatch.setattr("importlib.metadata.distributions", lambda: found)

    installed("faiss-cpu", "numpy")
    assert faiss_conflict() is None
    installed("faiss-gpu")
    assert faiss_conflict() is None
    installed("faiss-cpu", "faiss-gpu")
    assert "pip uninstall -y faiss-cpu faiss-gpu" in str(faiss_conflict())


def test_checkpoint_says_when_nobody_trains(tmp_path: Path) -> None:
    nobody = polyprag("checkpoint", tmp_path)
    assert nobody.exit_code == 2 and "no command is at work" in nobody.stderr
    with take(tmp_path / "lease", purpose="index"):
        other = polyprag("checkpoint", tmp_path)
    assert other.exit_code == 2 and "needs no checkpoint" in other.stderr
    with take(tmp_path / "lease", purpose="encode"):
        silent = polyprag("checkpoint", tmp_path, "--stop", "--timeout", "0.2")
    assert silent.exit_code == 2 and "within 0.2 s" in silent.stderr
    assert list((tmp_path / "requests").iterdir()) == []


def test_errors_that_another_try_may_mend_have_their_own_exit_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from polyprag.errors import StorageError, Terminated

    for error, status, said in (
        (StorageError("s3://b: the storage failed"), 75, "error: s3://b: the storage failed"),
        (RunError("no run"), 2, "error: no run"),
        (Terminated("a checkpoint was made"), 143, "ended: a checkpoint was made; run the same"),
    ):

        def fails(*arguments: Any, error: BaseException = error, **more: Any) -> None:
            raise error

        monkeypatch.setattr("cluster.report.status.status_of", fails)
        ended = polyprag("status", tmp_path)
        assert ended.exit_code == status and said in ended.stderr
