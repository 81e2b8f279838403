"""A cluster with token authentication: who has the token may submit, nobody else."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

WANTED = "the cluster wants its token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE"


def token_file(path: Path, text: str) -> dict[str, str]:
    """Writes a token, and gives the variables that name it."""
    path.touch(mode=0o600)
    path.write_text(text)
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


@pytest.mark.slow
def test_jobs_are_for_those_who_have_the_token(
    start_head: Callable[..., str], polyprag: Run, tmp_path: Path
) -> None:
    right = token_file(tmp_path / "token", "0123456789abcdef" * 2)
    wrong = token_file(tmp_path / "other", "fedcba9876543210" * 2)
    none = {"RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path)}
    server = start_head(num_cpus=1, environment=right)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{server}/api/jobs/", timeout=20)

    passages = tmp_path / "passages.jsonl"
    lines = [{"id": str(n), "title": f"T{n}", "text": f"Text {n}."} for n in range(3)]
    passages.write_text("\n".join(map(json.dumps, lines)))
    run = tmp_path / "run"
    submit = ["submit", "prepare", str(run), str(passages), "--follow", "--address", server]
    for environment in (none, wrong):
        for command in (submit, ["jobs", "list", "--address", server]):
            refused = polyprag(*command, environment=environment)
            assert refused.returncode == 2, refused.stdout + refused.stderr
            assert f"{server}: {WANTED}" in refused.stderr and "Traceback" not in refused.stderr
    assert not run.exists()

    done = polyprag(*submit, environment=right)
    assert done.returncode == 0 and "succeeded" in done.stdout, done.stdout + done.stderr
    assert "asks for no token" not in done.stderr
    assert json.loads((run / "corpus" / "manifest.json").read_text())["num_passages"] == 3
    listed = polyprag("jobs", "list", "--address", server, "--json", environment=right)
    assert [job["status"] for job in json.loads(listed.stdout)] == ["SUCCEEDED"]
