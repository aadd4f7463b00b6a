"""Models from the Hugging Face hub: safetensors, configuration and tokenizer only, never code."""

from __future__ import annotations

from pathlib import Path

from services.inference.models.errors import ModelError

_WANTED = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model"]
_ELSEWHERE = "Check the network, or name a directory, a .gguf file or packaged:gemma3-270m instead."


def fetch_snapshot(value: str, cache_dir: Path) -> Path:
    """The local snapshot of `owner/name[@revision]`, fetched if it isn't here. Raises ModelError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    name, _, revision = value.partition("@")
    try:
        return Path(
            snapshot_download(name, revision=revision or None, cache_dir=cache_dir / "hub", allow_patterns=_WANTED)
        )
    except GatedRepoError as error:
        raise ModelError(
            f"{name} needs its licence accepted on the hub", "Accept it there and set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no model {name}", "Check the name; a private one needs HF_TOKEN.") from error
    except LocalEntryNotFoundError as error:
        raise ModelError(f"the hub can't be reached and {name} is not in the cache", _ELSEWHERE) from error
    except Exception as error:
        raise ModelError(f"{name} could not be fetched: {type(error).__name__}", _ELSEWHERE) from error
