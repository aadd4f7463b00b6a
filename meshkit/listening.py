"""Whether an address can be listened on, asked before gRPC is, which says so only in a log line of its own."""

from __future__ import annotations

import errno
import socket


class CannotListen(Exception):
    """The address is not this machine's, or not for this user."""

    def __init__(self, host: str, port: int, variable: str, problem: str) -> None:
        super().__init__(f"can't listen on {host} port {port}: {problem}; set {variable} or the host beside it")


class PortTaken(CannotListen):
    """Another program listens there."""

    def __init__(self, host: str, port: int, variable: str) -> None:
        Exception.__init__(
            self,
            f"port {port} on {host} is taken; stop what listens there (ss -ltnp 'sport = :{port}') or set {variable}",
        )


def check_free(host: str, port: int, variable: str) -> None:
    """Raise CannotListen or PortTaken; `variable` is what the user would set. Another may still be quicker."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As a server does: connections that linger after a restart don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                raise PortTaken(host, port, variable) from None
            raise CannotListen(host, port, variable, problem.strerror or str(problem)) from None
