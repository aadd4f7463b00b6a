"""How much memory this process could still get, from the machine and its control groups; and giving back what is free.

Files that are mapped or cached count as left, since the kernel gives their pages up when others need them.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
# Limit, use, and the line of memory.stat that counts cached files: of control groups of version 2, then of version 1.
_KINDS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_bytes(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int:
    """The least of all that applies."""
    meminfo = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines())
    machine = int(meminfo["MemAvailable"].split()[0]) * 1024
    return min([machine, *(left for folder in _folders(proc, cgroup) for left in _left_in(folder))])


def give_back_freed() -> None:
    """Let the system have what was freed since the start; the C library keeps it otherwise, for later allocations."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(0)


def _folders(proc: Path, cgroup: Path) -> Iterator[Path]:
    """This process's control groups and those around them; a container often sees the outermost alone."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            base = cgroup / controllers
            own = base / path.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder == base or base in folder.parents)


def _left_in(folder: Path) -> Iterator[int]:
    for limit_name, use_name, cached_name in _KINDS:
        try:
            limit, used = int((folder / limit_name).read_text()), int((folder / use_name).read_text())
            stat = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue  # there is no such limit here ("max"), or no such control group
        yield max(0, limit - used + int(stat.get(cached_name, 0)))
