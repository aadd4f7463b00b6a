"""Rules of the settings and of what the engine is started with."""

from pathlib import Path

import pytest

from meshkit.settings_loader import SettingsError, load
from services.inference.launch import choose_dtype, choose_rank_count
from services.inference.settings import InferenceSettings, ModelSettings


def loaded(**environ: str) -> InferenceSettings:
    variables = {f"MESH_INFERENCE_{name}": value for name, value in environ.items()}
    return load(InferenceSettings, env_prefix="MESH_INFERENCE_", path=None, environ=variables).value


def test_port_stays_when_another_server_setting_is_given() -> None:
    assert loaded(ENGINE__KIND="echo", SERVER__HOST="127.0.0.2").server.port == 50061


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({}, "model.source"),
        ({"ENGINE__KIND": "magic"}, "engine.kind"),
        ({"ENGINE__KIND": "echo", "ENGINE__KV_TOKENS": "-1"}, "engine.kv_tokens"),
        ({"ENGINE__KIND": "echo", "ENGINE__MEMORY_SHARE": "1.0"}, "engine.memory_share"),
        ({"ENGINE__KIND": "echo", "ENGINE__STEP_TOKENS": "8"}, "engine.step_tokens"),
        ({"ENGINE__KIND": "echo", "ENGINE__REQUEUE_S": "-1"}, "engine.requeue_s"),
        ({"ENGINE__KIND": "echo", "ENGINE__AGEING_S": "0"}, "engine.ageing_s"),
        ({"ENGINE__KIND": "echo", "ENGINE__BATCHING_WINDOW_S": "0.06"}, "engine.batching_window_s"),
        ({"ENGINE__KIND": "echo", "ENGINE__OUTPUT_RESERVE_TOKENS": "-1"}, "engine.output_reserve_tokens"),
        ({"ENGINE__KIND": "echo", "ENGINE__PREFIX_CACHE": "maybe"}, "engine.prefix_cache"),
        ({"ENGINE__KIND": "echo", "WATCHDOG__SILENCE_S": "0.5"}, "watchdog.silence_s"),
        ({"ENGINE__KIND": "echo", "STREAM__FLUSH_TOKENS": "0"}, "stream.flush_tokens"),
    ],
)
def test_impossible_settings_are_named(environ: dict[str, str], word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        loaded(**environ)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/models/Qwen2.5-0.5B", "Qwen2.5-0.5B"),
        ("Qwen/Qwen2.5-0.5B-Instruct@main", "Qwen2.5-0.5B-Instruct"),
        ("/models/tiny.gguf", "tiny"),
        ("packaged:gemma3-270m", "gemma3-270m"),
    ],
)
def test_model_is_named_after_its_source(source: str, name: str) -> None:
    assert InferenceSettings(model=ModelSettings(source=source)).model_name == name
    assert InferenceSettings(model=ModelSettings(source=source, name="mine")).model_name == "mine"


@pytest.mark.parametrize(
    ("parts", "heads", "ranks"), [(1, 8, 1), (2, 8, 2), (64, 8, 2), (2, 1, 1), (2, 7, 1), (0, 8, 1)]
)
def test_two_ranks_where_cores_and_heads_allow(parts: int, heads: int, ranks: int) -> None:
    assert choose_rank_count(parts, heads) == ranks


def test_processor_computes_in_float32_and_gpu_in_bfloat16() -> None:
    assert [choose_dtype("auto", device) for device in ("cpu", "cuda")] == ["float32", "bfloat16"]
    assert choose_dtype("float16", "cpu") == "float16"


def test_engine_command_line_says_what_the_settings_say(tmp_path: Path) -> None:
    from services.inference.engine.options import as_arguments, parse
    from services.inference.launch import engine_options

    (tmp_path / "config.json").write_text('{"text_config": {"num_attention_heads": 4}}')
    settings = loaded(
        ENGINE__KV_TOKENS="512",
        ENGINE__TENSOR_PARALLEL_SIZE="3",
        MODEL__SOURCE="x",
        ENGINE__DEVICE="cpu",
        ENGINE__BATCHING_WINDOW_S="0.02",
        ENGINE__PREFIX_CACHE="off",
        ENGINE__MEMORY_SHARE="0.5",
        ENGINE__CONTEXT_TOKENS="256",
    )
    options = parse(as_arguments(engine_options(settings.engine, tmp_path, tmp_path, fd=7)))
    assert (options.fd, options.kv_tokens, options.tensor_parallel_size, options.dtype) == (7, 512, 3, "float32")
    assert (options.memory_share, options.context_tokens, options.max_sequences) == (0.5, 256, 64)
    assert (options.batching_window_s, options.prefix_cache, options.output_reserve_tokens) == (0.02, "off", 0)
