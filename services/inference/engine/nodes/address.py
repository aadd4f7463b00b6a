"""HOST:PORT in words that an operator writes, and which network interface an address belongs to."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A host, by name or number, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """From `host:port`, `10.0.0.1:50071` or `[fd00::1]:50071`. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or (":" in host) != host.startswith("["):
        raise ValueError(f"{text!r} is not HOST:PORT, such as 10.0.0.1:50071 or [fd00::1]:50071")
    return Address(host=host.removeprefix("[").removesuffix("]"), port=int(port))


def address_of(name: tuple[str | int, ...]) -> Address:
    """What `getpeername` and `getsockname` give."""
    return Address(host=str(name[0]).removeprefix("::ffff:"), port=int(name[1]))


def interface_of(host: str) -> str:
    """The network interface of this machine that has the address; empty if none has."""
    for interface, addresses in psutil.net_if_addrs().items():
        if any(one.family in (socket.AF_INET, socket.AF_INET6) and _plain(one.address) == host for one in addresses):
            return str(interface)
    return ""


def _plain(address: str) -> str:
    return address.partition("%")[0]
