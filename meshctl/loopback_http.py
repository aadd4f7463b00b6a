"""Reads JSON over HTTP from a part of the local mesh, past any proxy that the environment names."""

import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 5.0


class HttpFailed(Exception):
    """The answer is an error status; `status` says which."""

    def __init__(self, url: str, status: int) -> None:
        super().__init__(f"{url} answered {status}")
        self.status = status


def read_json(url: str, *, timeout_s: float = TIMEOUT_S) -> Any:
    """Raises HttpFailed for an error status, OSError or ValueError for anything else that went wrong."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=timeout_s) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        raise HttpFailed(url, error.code) from error
