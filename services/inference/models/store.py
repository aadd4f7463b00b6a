"""From what an operator names to files that the engine can load: `resolve` decides, its siblings do the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.inference.models import gguf, hub, packaged
from services.inference.models.checkpoint import check_checkpoint
from services.inference.models.digest import combined_digest, file_digest
from services.inference.models.source import parse_source

OnProgress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A checked checkpoint on this machine."""

    directory: Path
    revision: str  # SHA-256 over the weights; of the .gguf file where the checkpoint was converted from one
    has_chat_template: bool


def _silent(stage: str, fraction: float) -> None:
    return None


def resolve(source: str, cache_dir: Path, on_progress: OnProgress = _silent) -> ModelFiles:
    """Fetch, assemble or convert what `source` names. Blocks, for minutes the first time. Raises ModelError."""
    parsed = parse_source(source)
    if parsed.kind == "directory":
        return _from_directory(Path(parsed.value), cache_dir, on_progress)
    if parsed.kind == "hub":
        on_progress(f"fetching {parsed.value}", 0.0)
        return _from_directory(hub.fetch_snapshot(parsed.value, cache_dir), cache_dir, on_progress)
    if parsed.kind == "gguf":
        return _from_gguf(Path(parsed.value), cache_dir, on_progress)
    on_progress(f"assembling {parsed.value}", 0.0)
    return _from_gguf(packaged.assemble(parsed.value, cache_dir), cache_dir, on_progress)


def _from_gguf(file: Path, cache_dir: Path, on_progress: OnProgress) -> ModelFiles:
    gguf.check_magic(file)
    digest = file_digest(file, cache_dir, lambda fraction: on_progress("checking the file", fraction))
    directory = gguf.converted_directory(file, digest, cache_dir, on_progress)
    check_checkpoint(directory)
    return ModelFiles(directory=directory, revision=digest, has_chat_template=_has_chat_template(directory))


def _from_directory(directory: Path, cache_dir: Path, on_progress: OnProgress) -> ModelFiles:
    files = check_checkpoint(directory)
    parts = []
    for position, file in enumerate(files):

        def tell(fraction: float, done: int = position) -> None:
            on_progress("checking the weights", (done + fraction) / len(files))

        parts.append((file.name, file_digest(file, cache_dir, tell)))
    return ModelFiles(
        directory=directory, revision=combined_digest(parts), has_chat_template=_has_chat_template(directory)
    )


def _has_chat_template(directory: Path) -> bool:
    config = directory / "tokenizer_config.json"
    return (directory / "chat_template.jinja").is_file() or (
        config.is_file() and '"chat_template"' in config.read_text()
    )
