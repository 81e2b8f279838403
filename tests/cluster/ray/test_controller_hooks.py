"""A restart waits until Ray has noticed the nodes that don't answer."""

import socket
import time
from typing import Any

import pytest

import cluster.ray.controller_hooks as hooks


def node(name: str, port: int, *, alive: bool = True) -> dict[str, Any]:
    return {
        "NodeID": name,
        "Alive": alive,
        "NodeManagerAddress": "127.0.0.1",
        "NodeManagerPort": port,
    }


@pytest.fixture
def ports() -> Any:
    """One that answers, and one that doesn't."""
    with socket.create_server(("127.0.0.1", 0)) as listens, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        yield listens.getsockname()[1], silent.getsockname()[1]


def test_nodes_that_answer_aren_t_waited_for(
    ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recounted: list[bool] = []
    monkeypatch.setattr("ray.nodes", lambda: [node("a", ports[0]), node("b", 1, alive=False)])
    monkeypatch.setattr(hooks, "_recount", lambda: recounted.append(True))
    hooks.wait_for_dead_nodes()
    assert recounted == []


def test_a_node_that_doesn_t_answer_is_waited_for_until_ray_notices(
    ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recounted: list[bool] = []
    noticed_at = time.monotonic() + 1.0

    def nodes() -> list[dict[str, Any]]:
        dead = node("dead", ports[1], alive=time.monotonic() < noticed_at)
        return [node("a", ports[0]), dead]

    monkeypatch.setattr("ray.nodes", nodes)
    monkeypatch.setattr(hooks, "_recount", lambda: recounted.append(True))
    hooks.wait_for_dead_nodes()
    assert time.monotonic() >= noticed_at
    assert recounted == [True]


def test_the_wait_is_bounded(ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.nodes", lambda: [node("dead", ports[1])])
    monkeypatch.setattr(hooks, "_recount", lambda: None)
    monkeypatch.setattr(hooks, "_NOTICED_S", 0.6)
    hooks.wait_for_dead_nodes()
