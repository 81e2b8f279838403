"""The cluster files against the schemas of those who read them, and their command lines."""

import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml

from polyprag.cli.main import main
from polyprag.config.shipped import shipped_configs

ROOT = Path(__file__).parent.parent
FILES = ROOT / "configs" / "cluster"
HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_health_check_timeout_ms": "3000",
}


def read(name: str) -> dict[str, Any]:
    documents = list(yaml.safe_load_all((FILES / name).read_text(encoding="utf-8")))
    assert len(documents) == 1
    return dict(documents[0])


def test_files_of_others_are_not_taken_for_configs() -> None:
    listed = {name for name in shipped_configs() if name.startswith("cluster/")}
    assert listed == {"cluster/local", "cluster/ray-address"}
    for path in FILES.iterdir():
        assert path.suffix in (".yaml", ".yml", ".sbatch", ".sh")


# --- ray up


@pytest.mark.parametrize("name", ["aws.yml", "gcp.yml"])
def test_ray_takes_the_files_for_ray_up(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = read(name)
    validate_config(prepare_config(copy.deepcopy(config)))
    nodes = config["available_node_types"]
    assert nodes[config["head_node_type"]]["resources"]["CPU"] == 0
    assert nodes["gpu"]["resources"]["GPU"] == 8
    assert nodes["gpu"]["max_workers"] <= config["max_workers"]
    is_spot = {
        "aws": nodes["gpu"]["node_config"].get("InstanceMarketOptions") == {"MarketType": "spot"},
        "gcp": nodes["gpu"]["node_config"].get("scheduling", {}).get("provisioningModel") == "SPOT",
    }
    assert is_spot[config["provider"]["type"]]


@pytest.mark.parametrize("name", ["aws.yml", "gcp.yml"])
def test_every_node_of_ray_up_wants_the_token_and_the_head_finds_dead_ones_soon(name: str) -> None:
    config = read(name)
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    for node in ("head", "worker"):
        starts = [line for line in config[f"{node}_start_ray_commands"] if "ray start" in line]
        assert len(starts) == 1 and "RAY_AUTH_MODE=token" in starts[0]
        if node == "head":
            assert all(f"{key}={value}" in starts[0] for key, value in HEALTH.items())
            assert "--dashboard-host=127.0.0.1" in starts[0]


def test_amazon_takes_the_machines_and_the_firewall() -> None:
    import botocore.session
    from botocore.validate import ParamValidator

    config = read("aws.yml")
    service = botocore.session.get_session().get_service_model("ec2")
    calls = [
        ("RunInstances", {**nodes["node_config"], "MinCount": 1, "MaxCount": 1})
        for nodes in config["available_node_types"].values()
    ]
    rules = config["provider"]["security_group"]["IpPermissions"]
    calls.append(("AuthorizeSecurityGroupIngress", {"GroupId": "sg-1", "IpPermissions": rules}))
    for operation, arguments in calls:
        shape = service.operation_model(operation).input_shape
        report = ParamValidator().validate(arguments, shape)
        assert not report.has_errors(), report.generate_report()
    assert all(r["CidrIp"] != "0.0.0.0/0" for rule in rules for r in rule["IpRanges"])


# --- Kubernetes


def pod_templates(cluster: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group["template"]


def clusters() -> list[dict[str, Any]]:
    return [read("kuberay-cluster.yml")["spec"], read("kuberay-job.yml")["spec"]["rayClusterSpec"]]


def test_kubernetes_takes_the_pods_and_the_network_policy() -> None:
    import kubernetes_validate

    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(read("kuberay-network.yml"), version, strict=True)
    for cluster in clusters():
        for name, template in pod_templates(cluster):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **template}
            kubernetes_validate.validate(pod, version, strict=True)


def test_ray_reads_the_groups_of_a_ray_cluster() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )

    for cluster in clusters():
        resource = {"metadata": {"name": "polyprag", "namespace": "default"}, "spec": cluster}
        derived = _derive_autoscaling_config_from_ray_cr(resource)["available_node_types"]
        assert derived["headgroup"]["resources"]["CPU"] == 0
        assert derived["cpu"]["resources"]["CPU"] == 16 and derived["cpu"]["max_workers"] == 16
        assert derived["gpu"]["resources"]["GPU"] == 8 and derived["gpu"]["max_workers"] == 8


def test_pods_have_tokens_probes_and_time_for_a_checkpoint() -> None:
    for cluster in clusters():
        assert cluster["authOptions"] == {"mode": "token", "secretName": "polyprag-token"}
        assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52, 0)
        for _, template in pod_templates(cluster):
            spec = template["spec"]
            assert spec["securityContext"]["runAsNonRoot"]
            (container,) = spec["containers"]
            command = container["lifecycle"]["preStop"]["exec"]["command"]
            assert command[:2] == ["sh", "-c"]
            words = shlex.split(command[2])
            timeout = float(words[words.index("--timeout") + 1])
            assert timeout < spec["terminationGracePeriodSeconds"] <= 120
            for probe in ("readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}
            variables = {entry["name"]: entry["value"] for entry in container["env"]}
            assert variables.items() >= HEALTH.items()
            assert not any("KEY" in name or "TOKEN" in name for name in variables)


def test_job_and_cluster_differ_in_who_reaches_the_job_server_only() -> None:
    standing, of_job = clusters()
    hosts = [c["headGroupSpec"]["rayStartParams"].pop("dashboard-host") for c in (standing, of_job)]
    assert hosts == ["127.0.0.1", "0.0.0.0"]
    assert standing == of_job


def test_job_is_one_that_polyprag_jobs_lists() -> None:
    from cluster.jobs.client import JOB_COMMANDS, _job

    spec = read("kuberay-job.yml")["spec"]
    words = shlex.split(spec["entrypoint"])
    details: Any = SimpleNamespace(
        submission_id="polyprag-encode-x",
        metadata=spec["metadata"],
        status="RUNNING",
        message=None,
        start_time=None,
        end_time=None,
    )
    job = _job(details)
    assert spec["metadata"]["kind"] == "polyprag"
    assert words[:3] == ["polyprag", job.command, job.run] and job.command in JOB_COMMANDS
    grace = float(next(w for w in words if w.startswith("cluster.grace_seconds=")).split("=")[1])
    variables = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    assert float(variables["RAY_JOB_STOP_WAIT_TIME_S"]) > grace


# --- command lines


def command_lines() -> list[tuple[str, str]]:
    """Every `polyprag ...` in the cluster files and the pages about them, and where it stands."""
    found = []
    for path in (
        *sorted(FILES.iterdir()),
        ROOT / "docs" / "cluster.md",
        ROOT / "docs" / "security.md",
    ):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        if path.suffix == ".md":
            text = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S))
        elif path.suffix == ".yml":
            # block scalars: what YAML makes of them
            text = "\n".join(_texts(yaml.safe_load(text)))
        for line in text.splitlines():
            bare = re.sub(r"(^|\s)#.*", "", line)
            for match in re.finditer(r"(?:^|\s|-- )(polyprag\s+[a-z-]+\s[^|&;<>)]*)", bare):
                found.append((path.name, match.group(1).strip()))
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


@pytest.mark.parametrize(("where", "line"), command_lines())
def test_command_lines_are_ones_that_polyprag_has(where: str, line: str) -> None:
    words = [word for word in shlex.split(line)[1:] if word != "$@"]
    group: click.Command = main
    context = click.Context(main)
    while isinstance(group, click.Group):
        name = words.pop(0)
        command = group.get_command(context, name)
        assert command is not None, f"{where}: there is no `{name}`"
        group = command
    context = group.make_context(group.name, list(words), resilient_parsing=False)
    settings = [word for word in words if re.match(r"[a-z]+\.[a-z_]+=", word)]
    from polyprag.config.files import load_config

    load_config("wikipedia-21m", [s for s in settings if "$" not in s])
    if group.name == "submit":
        inner = main.get_command(context, context.params["name"])
        assert inner is not None
        inner.make_context(inner.name, [context.params["run"], *context.params["arguments"]])


def test_command_lines_were_found_everywhere() -> None:
    found = command_lines()
    assert {where for where, _ in found} >= {
        "cluster.md",
        "kuberay-cluster.yml",
        "kuberay-job.yml",
        "slurm.sbatch",
    }
    assert {line.split()[1] for _, line in found} >= {
        "submit",
        "checkpoint",
        "encode",
        "status",
        "jobs",
        "plan",
    }


def test_ray_start_lines_of_the_page_are_ones_that_ray_has() -> None:
    from ray.scripts.scripts import start

    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ray start (.*)$", page.replace("\\\n", ""), re.M)
    assert len(lines) == 4
    for line in lines:
        start.make_context("start", shlex.split(line))
