"""Real processes, real Consul, real Valkey, real models: shared by the tests that only ask."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshctl.local.model import PACKAGED, PACKAGED_MODULE
from meshkit.consul_binary import ConsulUnavailable, obtain_consul
from tests.support.local_mesh import LocalMesh
from tests.support.real import missing

# A prompt alone gets the deployment's default length, and a real model takes its time.
SHORT_ANSWERS = {"MESH_INFERENCE_STREAM__DEFAULT_MAX_TOKENS": "24"}


@pytest.fixture(scope="session", autouse=True)
def real_consul() -> None:
    """Fetched here, so that no test's time includes it."""
    try:
        obtain_consul()
    except ConsulUnavailable as problem:
        missing(str(problem))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.tiny_model import make_tiny_model  # imports torch, which takes seconds

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """A mesh that serves the packaged Gemma, for tests that only ask it things."""
    if importlib.util.find_spec(PACKAGED_MODULE) is None:
        missing("the packaged model is not installed: make setup")
    mesh = LocalMesh(tmp_path_factory.mktemp("mesh"), PACKAGED, environment=SHORT_ANSWERS)
    mesh.up()
    yield mesh
    mesh.down()
    assert mesh.processes() == []


@pytest.fixture
def own_mesh(tmp_path: Path, tiny_model: Path) -> Iterator[LocalMesh]:
    """A mesh of a tiny model that the test may break; not started yet."""
    mesh = LocalMesh(tmp_path / "run", str(tiny_model))
    yield mesh
    mesh.down()
    assert mesh.processes() == []
