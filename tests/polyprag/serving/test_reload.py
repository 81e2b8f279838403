"""What changes in a run is taken in while requests are answered."""

import shutil
import threading
import time
from pathlib import Path

import httpx
import pytest

from cluster.checkpoints.edit import forget_checkpoint_rows
from polyprag.config import Config
from polyprag.encoding.reader import Encoding, encoding_dir, save_encoding
from polyprag.growth.remove import remove_from_run
from polyprag.retrieval.building.index import build_index
from polyprag.serving.limits import RequestLimits
from sharding.change.keys import ids_of_keys
from sharding.corpus.reader import Corpus
from tests.polyprag.serving.conftest import MakeServer, Serving

ASKED = "Where was Anna Smith born?"


@pytest.fixture
def own_run(served_run: tuple[Path, Config], tmp_path: Path) -> tuple[Path, Config]:
    original, config = served_run
    shutil.copytree(original, tmp_path / "run")
    return tmp_path / "run", config


def ask(server: Serving, model: str = "wiki:poly") -> "dict[str, object]":
    body = {"model": model, "messages": [{"role": "user", "content": ASKED}]}
    told = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
    assert told.status_code == 200, told.text
    return dict(told.json())


def reloads(server: Serving, outcome: str = "done") -> int:
    for line in httpx.get(f"{server.url}/metrics").text.splitlines():
        if line.startswith(f'polyprag_reloads_total{{outcome="{outcome}"}}'):
            return int(float(line.rpartition(" ")[2]))
    return 0


def wait_for_reload(server: Serving, before: int, *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while reloads(server) == before:
        assert time.monotonic() < end
        time.sleep(0.05)


def keys_of(told: "dict[str, object]") -> list[str]:
    return [each["key"] for each in told["polyprag"]["passages"]]  # type: ignore[index]


def test_a_passage_that_is_removed_is_not_found_any_more(
    make_server: MakeServer, own_run: tuple[Path, Config]
) -> None:
    run, config = own_run
    server = make_server(run=run, reload_seconds=0.1)
    assert "p0" in keys_of(ask(server))
    loaded = server.engine.loaded
    (gone,) = ids_of_keys(Corpus.open(run / "corpus"), ["p0"])
    before = reloads(server)
    remove_from_run(str(run), [gone], config=config, forget_in_checkpoint=forget_checkpoint_rows)
    wait_for_reload(server, before)
    assert "p0" not in keys_of(ask(server))
    assert server.engine.loaded is not loaded
    assert server.engine.loaded.model is loaded.model  # whose experts are the same


def test_other_experts_are_taken_in_and_what_had_begun_ends_with_the_old_ones(
    make_server: MakeServer, own_run: tuple[Path, Config]
) -> None:
    run, config = own_run
    server = make_server(run=run, reload_seconds=0.1, limits=RequestLimits(max_tokens=400))
    before, number = ask(server), reloads(server)
    body = {"model": "wiki:poly", "prompt": "Anna", "max_tokens": 400, "ignore_eos": True}
    url = f"{server.url}/v1/completions"
    expected = httpx.post(url, json=body, timeout=60).json()["choices"][0]["text"]
    said: list[str] = []
    asking, stop = threading.Event(), threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            said.append(httpx.post(url, json=body, timeout=60).json()["choices"][0]["text"])
            asking.set()

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert asking.wait(60)
    encoding = Encoding.load(run)
    state = {name: -2 * tensor for name, tensor in encoding.expert_state().items()}
    manifest = encoding.manifest
    save_encoding(
        encoding_dir(run),
        config=encoding.config,
        expert_state=state,
        base_model=manifest.base_model,
        num_sites=manifest.num_sites,
        parts=list(manifest.parts),
        trained=manifest.trained,
    )
    build_index(run, config)
    wait_for_reload(server, number)
    after = httpx.post(url, json=body, timeout=60).json()["choices"][0]["text"]
    stop.set()
    for thread in threads:
        thread.join(timeout=60)
    assert after != expected and set(said) == {expected, after}  # one or the other, never a mix
    assert ask(server) != before


def test_a_run_that_is_not_whole_is_looked_at_again_later(
    make_server: MakeServer, own_run: tuple[Path, Config]
) -> None:
    run, _ = own_run
    server = make_server(run=run, reload_seconds=0.1)
    manifest = run / "index" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text[:-20])
    end = time.monotonic() + 60
    while not reloads(server, "failed"):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert keys_of(ask(server))  # with what was loaded
    manifest.write_text(text + "\n")
    wait_for_reload(server, 0)
    assert keys_of(ask(server))
