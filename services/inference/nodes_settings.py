"""What a deployer sets to run one model over several hosts: the same file on each of them, but for `rank`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meshkit.settings import require
from services.inference.engine.nodes.address import Address, parse_address
from services.inference.engine.nodes.secret import NoSecret, read_secret

LONGEST_SILENCE_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesSettings:
    """Hosts that share one model. Node 0 serves; a process with another `rank` lends it that host's ranks."""

    count: int = 1
    """Hosts; 1: this one alone, and nothing below matters."""
    rank: int = 0
    """This host's number, from 0 up."""
    rendezvous: str = "127.0.0.1:50071"
    """HOST:PORT at which the other hosts reach node 0. Ranks talk to each other on ports of the system's choice."""
    listen_host: str = ""
    """On node 0: the address that it listens on; empty: the host of `rendezvous`. 0.0.0.0 means every interface."""
    secret_file: Path | None = None
    """File with at least 32 characters, the same on all hosts: who can't prove to know it is turned away.
    What hosts send each other is not encrypted: use a network of their own."""
    join_timeout_s: float = 300.0
    """How long node 0 waits for the others at each start."""
    silence_s: float = 3.0
    """A host that says nothing for this long is lost, and the engine starts again; at most 4."""

    def __post_init__(self) -> None:
        require(self.count > 0, "nodes.count must be over 0")
        require(0 <= self.rank < self.count, f"nodes.rank must be in 0..{self.count - 1}, since nodes.count says so")
        try:
            parse_address(self.rendezvous)
        except ValueError as problem:
            raise ValueError(f"nodes.rendezvous is no address: {problem}") from None
        require(self.join_timeout_s > 0, "nodes.join_timeout_s must be over 0")
        require(1.5 <= self.silence_s <= LONGEST_SILENCE_S, f"nodes.silence_s must be in [1.5, {LONGEST_SILENCE_S:g}]")
        if self.count > 1:
            self._require_secret()

    @property
    def address(self) -> Address:
        """Of node 0, as the others reach it."""
        return parse_address(self.rendezvous)

    @property
    def listen_address(self) -> Address:
        """Of node 0, on its own host."""
        return Address(host=self.listen_host or self.address.host, port=self.address.port)

    def _require_secret(self) -> None:
        require(
            self.secret_file is not None,
            "nodes.secret_file must be set where nodes.count is over 1; make one: openssl rand -hex 32",
        )
        try:
            read_secret(self.secret_file or Path())
        except NoSecret as problem:
            raise ValueError(f"nodes.secret_file is unusable: {problem}") from None
