"""Which sinks a run has, and what is refused before any worker starts."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from cluster.record.sinks import chosen
from cluster.record.sinks.background import BackgroundSink
from cluster.record.sinks.chosen import check_sinks, open_sinks
from cluster.record.sinks.tensorboard import TensorBoardSink
from polyprag.config import Config, LogConfig
from polyprag.errors import ConfigError


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_library_that_is_not_installed_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "find_spec", lambda asked: None)
    check_sinks(LogConfig())
    with pytest.raises(ConfigError, match=rf"pip install 'polyprag\[{name}\]'"):
        check_sinks(LogConfig(sinks=["tensorboard", name]))


def test_mlflow_needs_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "find_spec", lambda asked: find_spec("json"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match=r"log\.mlflow_uri.*MLFLOW_TRACKING_URI"):
        check_sinks(LogConfig(sinks=["mlflow"]))
    check_sinks(LogConfig(sinks=["mlflow"], mlflow_uri="http://127.0.0.1:5000"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    check_sinks(LogConfig(sinks=["mlflow"]))


def test_password_is_kept_out_of_the_saved_config() -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as refused:
        LogConfig(mlflow_uri="http://me:secret@mlflow.example")
    assert "secret" not in str(refused.value)


def test_unknown_sink_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"log\.sinks='comet'.*tensorboard, wandb, mlflow"):
        LogConfig(sinks=["comet"])


def test_sinks_are_those_of_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_sinks(str(tmp_path), Config(log=LogConfig(sinks=[])), resumed_step=0) == []
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("WANDB_MODE", "disabled")
    config = Config(log=LogConfig(sinks=["tensorboard", "wandb"]))
    sinks = open_sinks(str(tmp_path), config, resumed_step=0)
    assert [type(sink) for sink in sinks] == [TensorBoardSink, BackgroundSink]
    for sink in sinks:
        sink.close()
