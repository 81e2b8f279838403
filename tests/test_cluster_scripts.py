"""The scripts for SLURM and spot machines, with stand-ins for the programs that they call."""

import http.server
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FILES = ROOT / "configs" / "cluster"
SCRIPTS = ("slurm.sbatch", "spot-notice.sh")


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program of this environment."""
    command = [str(Path(sys.executable).with_name(name)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_sound_shell(name: str) -> None:
    path = FILES / name
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True, timeout=30)
    checked = tool("shellcheck", "--shell=bash", str(path))
    assert checked.returncode == 0, checked.stdout


def test_dockerfile_is_sound_and_makes_a_user() -> None:
    checked = tool("hadolint", str(ROOT / "Dockerfile"))
    assert checked.returncode == 0, checked.stdout
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (.*)$", text, re.M)[-1] == "1000"
    assert (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()[1] == "*"


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A folder for the PATH whose programs write down how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def program(name: str, body: str) -> None:
        path = folder / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >> {tmp_path}/calls\n{body}\n')
        path.chmod(0o755)

    program("scontrol", 'if [ "$1" = show ]; then printf "node7\\nnode8\\n"; fi')
    # Works until it is told that a checkpoint was made, as the training does.
    program("srun", f"until [ -e {tmp_path}/checkpoint ]; do sleep 0.1; done; exit ${{CODE:-143}}")
    program("polyprag", f'[ "${{FAILS:-}}" ] && exit 2; touch {tmp_path}/checkpoint')
    program("ray", "")
    return folder


def batch_job(stand_ins: Path, home: Path, **more: str) -> subprocess.Popen[str]:
    variables = {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "96",
        "SLURM_GPUS_ON_NODE": "8",
        "HOME": str(home),
        "PATH": f"{stand_ins}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.Popen(
        ["bash", str(FILES / "slurm.sbatch"), "/shared/wiki", "cluster.workers=16"],
        env={**os.environ, **variables, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def calls_until(log: Path, number: int) -> list[str]:
    deadline = time.monotonic() + 120
    while True:
        calls = log.read_text().splitlines() if log.exists() else []
        if len(calls) >= number:
            return calls
        assert time.monotonic() < deadline, calls
        time.sleep(0.05)


@pytest.mark.parametrize("fails", ["", "yes"])
def test_slurm_job_makes_a_checkpoint_and_is_queued_again_when_its_time_is_up(
    fails: str, stand_ins: Path, tmp_path: Path
) -> None:
    job = batch_job(stand_ins, tmp_path, FAILS=fails)
    calls = calls_until(tmp_path / "calls", 2)
    assert calls[0] == "scontrol show hostnames node[7-8]"
    assert "symmetric-run --address node7:24711 --min-nodes 2" in calls[1]
    assert calls[1].endswith(
        "-- polyprag encode /shared/wiki cluster.address=node7:24711 cluster.workers=16"
    )
    token = tmp_path / ".polyprag-token-4711"
    assert token.stat().st_mode & 0o777 == 0o600 and len(token.read_text()) > 32
    job.terminate()
    assert job.wait(timeout=30) == 0
    calls = calls_until(tmp_path / "calls", 4)
    assert calls[2:] == [
        "polyprag checkpoint /shared/wiki --stop --timeout 220",
        "scontrol requeue 4711",
    ]
    assert not token.exists()
    (tmp_path / "checkpoint").touch()  # so that the stand-in for srun ends, too


@pytest.mark.parametrize("code", [0, 2])
def test_slurm_job_ends_as_its_training_does(code: int, stand_ins: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").touch()
    job = batch_job(stand_ins, tmp_path, CODE=str(code))
    job.communicate(timeout=30)
    assert job.returncode == code
    assert not any("requeue" in call for call in calls_until(tmp_path / "calls", 2))


class _Metadata(http.server.BaseHTTPRequestHandler):
    """The metadata service of both clouds; the machine is taken at the third question."""

    asked = 0

    def do_PUT(self) -> None:
        self._answer(200, "a-token")

    def do_GET(self) -> None:
        _Metadata.asked += 1
        is_aws = self.path == "/latest/meta-data/spot/instance-action"
        if is_aws:
            assert self.headers["X-aws-ec2-metadata-token"] == "a-token"
        else:
            assert self.path == "/computeMetadata/v1/instance/preempted"
            assert self.headers["Metadata-Flavor"] == "Google"
        if _Metadata.asked < 3:
            self._answer(404 if is_aws else 200, "" if is_aws else "FALSE")
        else:
            self._answer(200, '{"action": "terminate"}' if is_aws else "TRUE")

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.mark.parametrize(("cloud", "seconds"), [("aws", 110), ("gcp", 25)])
def test_spot_notice_drains_the_node_once_the_cloud_takes_the_machine(
    cloud: str, seconds: int, stand_ins: Path, tmp_path: Path
) -> None:
    from ray.scripts.scripts import drain_node

    _Metadata.asked = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        subprocess.run(
            ["bash", str(FILES / "spot-notice.sh"), cloud, "10.0.0.1:6379"],
            env={
                **os.environ,
                "PATH": f"{stand_ins}{os.pathsep}{os.environ['PATH']}",
                "SPOT_NOTICE_URL": f"http://127.0.0.1:{server.server_port}",
                "SPOT_NOTICE_SECONDS": "0.05",
                "no_proxy": "127.0.0.1",
            },
            check=True,
            capture_output=True,
            timeout=240,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert _Metadata.asked == 3
    (call,) = calls_until(tmp_path / "calls", 1)
    assert call.startswith("ray drain-node --address 10.0.0.1:6379 ")
    assert call.endswith(f"--deadline-remaining-seconds {seconds}")
    options = shlex.split(re.sub(r"(--reason-message) .* (--deadline)", r"\1 told \2", call))[2:]
    drain_node.make_context("drain-node", options)
