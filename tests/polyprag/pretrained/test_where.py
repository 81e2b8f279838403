"""Where a model's path leads: a directory, polyprag's own model, or the hub, never by chance."""

from pathlib import Path

import pytest

from polyprag.pretrained import TINY_BASE, UnusableModelError, located
from polyprag.pretrained.where import is_on_this_machine

TINY = Path(__file__).parents[3] / "examples" / "tiny-base"


def test_polyprags_own_model_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(located(TINY_BASE)).samefile(TINY)
    # What earlier versions saved in runs.
    assert Path(located("examples/tiny-base")).samefile(TINY)
    (tmp_path / "examples" / "tiny-base").mkdir(parents=True)
    assert located("examples/tiny-base") == "examples/tiny-base"
    with pytest.raises(UnusableModelError, match="polyprag:tiny-base"):
        located("polyprag:large-base")


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere/llama",
        "./llama",
        "../llama",
        "~/llama",
        "models/7b/llama",
        "models/other",
        "a b/c",
    ],
)
def test_a_path_that_is_not_there_is_no_name_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "models" / "llama").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnusableModelError, match="there is no directory"):
        located(path)


def test_names_on_the_hub_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("gpt2", "meta-llama/Llama-3.2-1B", "Qwen/Qwen2.5-0.5B-Instruct"):
        assert located(name) == name


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(UnusableModelError, match="it is a file"):
        located(str(tmp_path / "model.bin"))


def test_a_gguf_file_is_a_model(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    assert located(str(file)) == str(file)
    assert is_on_this_machine(str(file))
