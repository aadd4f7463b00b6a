"""The dependency rule of ARCHITECTURE.md, read from the imports: services.X -> meshkit -> gen, domain modules pure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services"
FRAMEWORKS = ("grpc", "mesh", "consul", "valkey", "redis", "opentelemetry")
WIRING = {"app.py", "servicer.py", "__main__.py"}
# Modules that translate between the domain and one outside thing each; every other module of a service is domain.
ADAPTERS = {
    "services/cache/operations_proto.py": "the cache contract",
    "services/cache/prefixes/kv_watch.py": "the inference contract",
    "services/cache/semantic/translation.py": "the cache contract",
    "services/cache/valkey_cluster.py": "Valkey",
    "services/cache/valkey_flights.py": "Valkey",
    "services/cache/valkey_node.py": "Valkey",
    "services/cache/valkey_tier.py": "Valkey",
    "services/compressor/instance_counter.py": "the inference contract",
    "services/compressor/summary/instance_summarizer.py": "the inference contract",
    "services/compressor/prompt_proto.py": "the prompt's messages",
    "services/console/otlp.py": "OTLP's messages",
    "services/inference/protobuf.py": "the inference contract",
    "services/router/asking.py": "the router's requests",
    "services/router/cache_client.py": "the cache contract",
    "services/router/checking.py": "the router's requests",
    "services/router/compressor_client.py": "the compressor contract",
    "services/router/engine_client.py": "the inference contract",
    "services/router/load_watch.py": "the inference contract",
    "services/router/observation.py": "OpenTelemetry",
    "services/router/telling.py": "the router's events",
}


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path) -> Iterator[str]:
    package = path.parent.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join([*base, *([node.module] if node.module else [])])


def is_under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules(SERVICES), ids=named)
def test_a_service_imports_no_other_service(path: Path) -> None:
    own = f"services.{path.relative_to(SERVICES).parts[0]}"
    strangers = [name for name in imports(path) if is_under(name, "services") and not is_under(name, own)]
    assert not strangers


@pytest.mark.parametrize("folder", ["meshkit", "meshclient"])
def test_chassis_and_client_import_no_service(folder: str) -> None:
    found = {
        named(path): name for path in modules(ROOT / folder) for name in imports(path) if is_under(name, "services")
    }
    assert not found


def test_chassis_imports_neither_operator_nor_client() -> None:
    above = ("meshctl", "meshclient", "tests", "benchmarks")
    found = {
        named(path): name for path in modules(ROOT / "meshkit") for name in imports(path) if is_under(name, *above)
    }
    assert not found


@pytest.mark.parametrize("path", modules(SERVICES), ids=named)
def test_a_domain_module_imports_no_framework(path: Path) -> None:
    if path.name in WIRING or named(path) in ADAPTERS:
        return
    assert not [name for name in imports(path) if is_under(name, *FRAMEWORKS)]


def test_every_named_adapter_exists() -> None:
    assert not [name for name in ADAPTERS if not (ROOT / name).exists()]


@pytest.mark.parametrize("name", ["__main__.py", "app.py", "settings.py", "servicer.py", "Dockerfile"])
@pytest.mark.parametrize("service", sorted(path.parent.name for path in SERVICES.glob("*/__init__.py")))
def test_every_service_has_the_same_files(service: str, name: str) -> None:
    assert (SERVICES / service / name).is_file()
