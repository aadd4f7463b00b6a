"""A TCP port that was free a moment ago, for what can't bind to 0 itself."""

import socket


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
