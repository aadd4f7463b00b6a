"""What is checked before anything starts. Each finding is one sentence that says what to do."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil

from meshctl.local.ports import LOOPBACK, Ports, is_taken

NEEDED_MEMORY_BYTES = 3 * 1024**3
NEEDED_DISK_BYTES = 2 * 1024**3
GIB = 1024**3


def port_problems(ports: Ports, *, uses_consul: bool) -> Iterator[str]:
    """Ports that another program holds."""
    for name, port in ports.named().items():
        if name.startswith("consul") and not uses_consul:
            continue
        if is_taken(port) or (name == "consul_serf" and _is_udp_taken(port)):
            yield (
                f"port {port} on {LOOPBACK}, meant for {name}, is taken{_owner(port)}: stop what listens there, "
                f"or choose another with `meshctl up --port {name}=N` (make up ARGS='--port {name}=N')"
            )


def room_problems(run_dir: Path) -> Iterator[str]:
    """Too little memory or disk."""
    available = psutil.virtual_memory().available
    if available < NEEDED_MEMORY_BYTES:
        yield (
            f"about {NEEDED_MEMORY_BYTES / GIB:.0f} GB of memory are needed and {available / GIB:.1f} GB are free: "
            "close something, or pass --skip-checks with a small --model"
        )
    free = shutil.disk_usage(_existing(run_dir)).free
    if free < NEEDED_DISK_BYTES:
        yield (
            f"about {NEEDED_DISK_BYTES / GIB:.0f} GB of disk are needed under {run_dir} and {free / GIB:.1f} GB are "
            "free: free some space, or choose another --run-dir"
        )


def costly_lacks() -> Iterator[str]:
    """What is worth saying, though the mesh works without it."""
    if shutil.which("g++") is None:
        yield (
            "no C++ compiler: the ranks of the engine reduce through gloo instead of shared memory, some 2 ms a layer "
            "slower; `apt-get install g++` and start again"
        )


def _is_udp_taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def _owner(port: int) -> str:
    """Known only for the operator's own processes, unless this runs as root."""
    try:
        pids = {one.pid for one in psutil.net_connections("inet") if one.laddr and one.laddr.port == port and one.pid}
        return "".join(f" by {psutil.Process(pid).name()} (pid {pid})" for pid in sorted(pids)[:1])
    except (psutil.Error, OSError):
        return ""


def _existing(directory: Path) -> Path:
    return next(path for path in (directory, *directory.parents) if path.exists())
