"""Which loopback port each part of a local mesh listens on."""

import contextlib
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The defaults that callers and the documentation rely on."""

    router: int = 50051
    cache: int = 50052
    compressor: int = 50053
    inference: int = 50061
    otlp: int = 4317
    console: int = 16686
    valkey: int = 50079
    consul: int = 8500
    consul_server: int = 8300
    consul_serf: int = 8301

    def named(self) -> dict[str, int]:
        return asdict(self)


NAMES = tuple(field.name for field in fields(Ports))


def parse_ports(assignments: Iterable[str], base: Ports) -> Ports:
    """`["router=50151"]` over `base`. Raises ValueError that names the assignment."""
    chosen = {}
    for assignment in assignments:
        name, _, number = assignment.partition("=")
        if name not in NAMES or not number.isdigit() or not 0 < int(number) < 65536:
            raise ValueError(f"{assignment!r} is not NAME=PORT with a NAME of {', '.join(NAMES)}")
        chosen[name] = int(number)
    return replace(base, **chosen)


def free_ports() -> Ports:
    """Ports that nothing uses right now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in NAMES]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return Ports(**{name: one.getsockname()[1] for name, one in zip(NAMES, sockets, strict=True)})


def is_taken(port: int) -> bool:
    """Whether something listens there. A port that merely lingers after a close counts as free."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((LOOPBACK, port))
        except OSError:
            return True
    return False
