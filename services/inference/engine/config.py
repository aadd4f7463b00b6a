"""A model's configuration, read before what runs models is imported: a model that can't be served is told sooner."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig

from services.inference.models.errors import ModelError

ADVICE = "Check the directory, or fetch the model again."


def load_config(model_dir: Path) -> PreTrainedConfig:
    """The model's configuration. Raises ModelError for one that transformers doesn't know."""
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(model_dir, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the configuration in {model_dir} is unusable: {first_line(error)}", ADVICE) from error
    return config


def first_line(error: BaseException) -> str:
    """What a library's error says, in short."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
