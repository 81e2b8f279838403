"""A model on a hub has the digest that it has in a directory, and its weights stay there."""

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

from polyprag.pretrained import identity
from polyprag.pretrained.identity import weights_digest


class Hub(BaseHTTPRequestHandler):
    """Gives parts of the files of one model, and counts their bytes."""

    root: Path
    sent = 0
    whole = False  # whether it ignores what part is asked for

    def do_GET(self) -> None:
        found = re.fullmatch(r"/owner/model/resolve/main/([\w.-]+)", self.path)
        file = self.root / found[1] if found else None
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if file is None or not file.is_file() or asked is None:
            self.send_error(404)
            return
        data = file.read_bytes()
        part = data if self.whole else data[int(asked[1]) : int(asked[2]) + 1]
        type(self).sent += len(part)
        self.send_response(200 if self.whole else 206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {asked[1]}-{asked[2]}/{len(data)}")
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def hub(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_random_llama: Callable[..., LlamaForCausalLM],
) -> Iterator[type[Hub]]:
    handler = type("OfThisTest", (Hub,), {"root": tmp_path / "model"})
    make_random_llama(layers=12).save_pretrained(tmp_path / "model", max_shard_size="150KB")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://127.0.0.1:{server.server_address[1]}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    index = tmp_path / "model" / "model.safetensors.index.json"
    assert index.is_file()  # several shards
    monkeypatch.setattr(
        identity, "_cached", lambda name, file, revision: index if file == index.name else None
    )
    monkeypatch.setattr(identity, "_directory_of", only_directories)
    yield handler
    server.shutdown()


def only_directories(path: str, _: str | None) -> Path | None:
    return Path(path) if Path(path).is_dir() else None


def test_the_digest_is_that_of_the_directory(hub: type[Hub]) -> None:
    expected = weights_digest(str(hub.root))
    assert expected is not None and hub.sent == 0
    assert weights_digest("owner/model") == expected
    total = sum(path.stat().st_size for path in hub.root.glob("*.safetensors"))
    assert 0 < hub.sent <= total


def test_a_hub_that_gives_no_parts_leaves_it_unknown(hub: type[Hub]) -> None:
    hub.whole = True
    assert weights_digest("owner/model") is None
    assert weights_digest("owner/other") is None
