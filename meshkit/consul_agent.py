"""Decides how a single-machine Consul agent is run: a server of one, on loopback only, with script checks off."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
OFF = -1
PROBE_TIMEOUT_S = 1.0
VERSION_TIMEOUT_S = 10.0
# From here on a server opens one more port, 8503, which an older one refuses to hear of.
GRPC_TLS_SINCE = (1, 14)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsulPorts:
    """The ports that a server of one needs. `serf` is taken for TCP and UDP."""

    http: int = 8500
    server: int = 8300
    serf: int = 8301


def consul_command(binary: Path, *, data_dir: Path, ports: ConsulPorts | None = None) -> list[str]:
    """The command that starts the agent; writes its configuration into `data_dir`, which keeps the agent's state."""
    data_dir.mkdir(parents=True, exist_ok=True)
    config = data_dir / "agent.json"
    content = agent_config(data_dir, ports or ConsulPorts(), version_of(binary))
    config.write_text(json.dumps(content, indent=2))
    return [str(binary), "agent", f"-config-file={config}"]


def agent_config(data_dir: Path, ports: ConsulPorts, version: tuple[int, int]) -> dict[str, object]:
    """Keys that Consul 1.8 and its successors both understand, except where a version needs one of its own."""
    later = {"grpc_tls": OFF} if version >= GRPC_TLS_SINCE else {}
    return {
        "server": True,
        "bootstrap_expect": 1,
        "node_name": "mesh-local",
        "data_dir": str(data_dir / "state"),
        "bind_addr": LOOPBACK,
        "client_addr": LOOPBACK,
        "ports": {
            "http": ports.http,
            "server": ports.server,
            "serf_lan": ports.serf,
            "serf_wan": OFF,
            "dns": OFF,
            "grpc": OFF,
            "https": OFF,
            **later,
        },
        "enable_script_checks": False,
        "enable_local_script_checks": False,
        "disable_remote_exec": True,
        "disable_update_check": True,
        # Health changes reach the catalogue at once instead of with the next periodic sync.
        "check_update_interval": "0s",
        # A server of one has nobody to wait for: elections take 1 s instead of 5.
        "performance": {"raft_multiplier": 1},
        "log_level": "warn",
    }


def version_of(binary: Path) -> tuple[int, int]:
    """Major and minor version; the pinned package's where the binary does not say."""
    try:
        said = subprocess.run([binary, "version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    found = re.search(r"v(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (1, 8)


def has_leader(url: str) -> bool:
    """Whether the agent at `url` answers and knows a leader. Blocks for PROBE_TIMEOUT_S at most."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback goes through no proxy
    try:
        with direct.open(f"{url}/v1/status/leader", timeout=PROBE_TIMEOUT_S) as reply:
            return bool(reply.read().strip(b'" \n'))
    except (urllib.error.URLError, OSError):
        return False
