"""Unpacks a Debian package without root: dpkg-deb where it exists, else by reading the ar archive and its tar."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60
UNPACK_TIMEOUT_S = 60.0


class BadPackage(Exception):
    """The file is no Debian package that we can read."""


def unpack_deb(deb: Path, root: Path) -> None:
    """Writes the package's files under `root`. Raises BadPackage, OSError or tarfile.TarError."""
    root.mkdir(parents=True, exist_ok=True)
    dpkg_deb = shutil.which("dpkg-deb")
    if dpkg_deb is None:
        unpack_deb_in_python(deb, root)
        return
    done = subprocess.run([dpkg_deb, "-x", deb, root], capture_output=True, text=True, timeout=UNPACK_TIMEOUT_S)
    if done.returncode:
        raise BadPackage(done.stderr.strip())


def unpack_deb_in_python(deb: Path, root: Path) -> None:
    """The same without dpkg; only regular files and links inside `root` are written."""
    name, data = _data_member(deb.read_bytes())
    if name.endswith(".zst"):
        raise BadPackage(f"{deb.name} is compressed with zstd, which needs dpkg-deb")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(root, filter="data")


def _data_member(archive: bytes) -> tuple[str, bytes]:
    if not archive.startswith(AR_MAGIC):
        raise BadPackage("not an ar archive")
    offset = len(AR_MAGIC)
    while offset + AR_HEADER_BYTES <= len(archive):
        header = archive[offset : offset + AR_HEADER_BYTES]
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        start = offset + AR_HEADER_BYTES
        if name.startswith("data.tar"):
            return name, archive[start : start + size]
        offset = start + size + size % 2  # members are aligned to two bytes
    raise BadPackage("no data.tar inside")
