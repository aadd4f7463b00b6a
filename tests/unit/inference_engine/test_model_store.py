"""What may be named as a model, and the clear refusals of what can't be served."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from services.inference.models import digest, gguf, store
from services.inference.models.errors import ModelError
from services.inference.models.source import parse_source
from tests.support.tiny_model import make_tiny_model


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model")


def test_directory_resolves_to_itself_with_the_weights_digest_as_revision(checkpoint: Path, tmp_path: Path) -> None:
    files = store.resolve(str(checkpoint), tmp_path / "cache")
    expected = hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    assert (files.directory, files.revision, files.has_chat_template) == (checkpoint.resolve(), expected, True)


def test_base_model_has_no_chat_template(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base", chat_template=False)
    assert not store.resolve(str(base), tmp_path / "cache").has_chat_template


def test_digest_is_computed_once_and_again_only_after_a_change(checkpoint: Path, tmp_path: Path) -> None:
    weights = checkpoint / "model.safetensors"
    computed: list[float] = []
    first = digest.file_digest(weights, tmp_path, computed.append)
    assert digest.file_digest(weights, tmp_path, computed.append) == first
    assert len(computed) == 1
    with weights.open("ab") as stream:
        stream.write(b"x")
    assert digest.file_digest(weights, tmp_path, computed.append) != first


def _remove_config(directory: Path) -> None:
    (directory / "config.json").unlink()


def _break_config(directory: Path) -> None:
    (directory / "config.json").write_text("{")


def _remove_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()


def _pickle(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def _remove_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def _truncate(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])


def _replace_by_garbage(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"\xff" * 100)


def _lose_a_shard(directory: Path) -> None:
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "gone.safetensors"}}))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_remove_config, "no config.json"),
        (_break_config, "not JSON"),
        (_remove_tokenizer, "no tokenizer"),
        (_pickle, "pickled weights only"),
        (_remove_weights, "no .safetensors file"),
        (_truncate, "truncated"),
        (_replace_by_garbage, "truncated or is not a safetensors"),
        (_lose_a_shard, "lacks gone.safetensors"),
    ],
)
def test_damaged_checkpoint_is_refused_in_one_sentence_with_advice(
    checkpoint: Path, tmp_path: Path, damage: Callable[[Path], None], problem: str
) -> None:
    damage(checkpoint)
    with pytest.raises(ModelError) as refused:
        store.resolve(str(checkpoint), tmp_path / "cache")
    assert problem in refused.value.problem
    assert refused.value.advice


def test_shards_named_by_an_index_give_one_revision(checkpoint: Path, tmp_path: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    names = sorted(tensors)
    halves = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
    for file, held in halves.items():
        save_file({name: tensors[name] for name in held}, checkpoint / file)
    (checkpoint / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, held in halves.items() for name in held}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert len(store.resolve(str(checkpoint), tmp_path / "cache").revision) == 64


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("packaged:gemma3-270m", "packaged"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "hub"),
        ("Qwen/Qwen2.5-0.5B-Instruct@main", "hub"),
        ("models/small.gguf", "gguf"),
    ],
)
def test_source_is_told_by_its_form(text: str, kind: str) -> None:
    assert parse_source(text).kind == kind


@pytest.mark.parametrize("text", ["", "nonsense", "./absent/directory", "a/b/c"])
def test_what_is_no_source_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ModelError, match="Name a directory"):
        parse_source(text)


def test_file_that_is_not_gguf_and_one_that_is_absent_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"nope")
    for name in ("bad.gguf", "absent.gguf"):
        with pytest.raises(ModelError):
            store.resolve(str(tmp_path / name), tmp_path / "cache")


def test_unknown_packaged_model_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gemma3-270m"):
        store.resolve("packaged:llama", tmp_path)


def test_failed_conversion_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    cache = tmp_path / "cache"

    def refuse(file: Path, target: Path, on_progress: gguf.OnProgress) -> None:
        (target / "half.safetensors").write_bytes(b"x")
        raise ModelError("no")

    with pytest.raises(ModelError):
        gguf.converted_directory(tmp_path / "bad.gguf", "0" * 64, cache, lambda stage, fraction: None, refuse)
    assert [file.suffix for file in (cache / "converted").iterdir()] == [".lock"]


def test_hub_that_can_not_be_reached_is_said_so(tmp_path: Path) -> None:
    """In a process of its own: the hub's address is read when its library is imported."""
    code = (
        "import sys, pathlib; from services.inference.models import store, errors\n"
        "try: store.resolve('owner/name', pathlib.Path(sys.argv[1]))\n"
        "except errors.ModelError as error: print(error)"
    )
    nowhere = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", code, str(tmp_path)]
    said = subprocess.run(command, env=nowhere, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "can't be reached" in said and "packaged:gemma3-270m" in said


def test_resolving_needs_neither_torch_nor_transformers() -> None:
    code = "import sys; import services.inference.models.store; print({'torch', 'transformers'} & set(sys.modules))"
    root = Path(__file__).parents[3]
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert output.stdout.strip() == "set()"
