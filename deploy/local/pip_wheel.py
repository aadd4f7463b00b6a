"""Fetches the pinned pip wheel from the user's package index with the standard library alone.

Debian's python3 has no ensurepip, so a virtual environment there starts without pip.
"""

import base64
import configparser
import hashlib
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

VERSION = "26.3"
FILE_NAME = f"pip-{VERSION}-py3-none-any.whl"
SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
DEFAULT_INDEX = "https://pypi.org/simple"
TIMEOUT_S = 30.0


class NoPip(Exception):
    """No index gave the wheel; the text names each try."""


def fetch_pip_wheel(directory: Path) -> Path:
    """Writes the wheel into `directory` and returns its path. Raises NoPip."""
    failures = []
    for index in _indexes():
        try:
            content = _from_index(index)
        except (OSError, ValueError, LookupError) as error:
            failures.append(f"{_shown(index)}: {getattr(error, 'reason', error)}")
            continue
        target = directory / FILE_NAME
        target.write_bytes(content)
        return target
    raise NoPip("; ".join(failures))


def _from_index(index: str) -> bytes:
    """Raises LookupError where the index lacks the file, ValueError on a wrong checksum."""
    page_url = index.rstrip("/") + "/pip/"
    if page_url.startswith("file:"):
        page_url += "index.html"
    page = _read(page_url).decode("utf-8", "replace")
    link = re.search(r'href="([^"]*' + re.escape(FILE_NAME) + r')(?:#[^"]*)?"', page)
    if link is None:
        raise LookupError(f"has no {FILE_NAME}")
    content = _read(_with_credentials(urllib.parse.urljoin(page_url, link.group(1)), index))
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(f"{FILE_NAME} has another checksum than the pinned one")
    return content


def _read(url: str) -> bytes:
    """The pinned checksum guards the content, so a machine without CA certificates may go on, without credentials."""
    try:
        return _open(url, ssl.create_default_context(cafile=_setting("cert")))
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLCertVerificationError):
            raise
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    return _open(_without_credentials(url), unverified)


def _open(url: str, context: ssl.SSLContext) -> bytes:
    request = urllib.request.Request(_without_credentials(url))
    parts = urllib.parse.urlsplit(url)
    if parts.username:
        login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    proxy = _setting("proxy")
    if proxy:
        handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
    with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S) as reply:
        content: bytes = reply.read()
        return content


def _indexes() -> list[str]:
    return [_setting("index-url") or DEFAULT_INDEX, *(_setting("extra-index-url") or "").split()]


def _setting(name: str) -> str | None:
    """One of pip's settings: environment over user's file over the machine's file."""
    from_environment = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    if from_environment:
        return from_environment
    parser = configparser.RawConfigParser()
    parser.read(_config_files(), encoding="utf-8")
    for section in ("install", "global"):
        if parser.has_option(section, name):
            return parser.get(section, name)
    return None


def _config_files() -> list[Path]:
    chosen = os.environ.get("PIP_CONFIG_FILE")
    home = Path.home()
    xdg = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    standard = [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", xdg / "pip" / "pip.conf"]
    if chosen == os.devnull:
        return []
    return [*standard, Path(chosen)] if chosen else standard


def _with_credentials(url: str, index: str) -> str:
    """The index's credentials count for its own host only."""
    target, source = urllib.parse.urlsplit(url), urllib.parse.urlsplit(index)
    if target.username or not source.username or target.hostname != source.hostname:
        return url
    return target._replace(netloc=source.netloc).geturl()


def _without_credentials(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


_shown = _without_credentials
