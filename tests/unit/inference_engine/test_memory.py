"""Rules of the memory that a model is expected to take, and of what a process could still get."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from services.inference.engine.available import available_bytes
from services.inference.engine.memory import Contents, WeightBytes, kv_bytes, read_contents, weight_bytes

GIB = 2**30
MIB = 2**20


def write_safetensors(file: Path, **tensors: tuple[str, list[int]]) -> None:
    """A file whose header names these tensors, with zeros for data."""
    sizes, header, end = {"F32": 4, "BF16": 2}, {}, 0
    for name, (dtype, shape) in tensors.items():
        size = sizes[dtype] * shape[0] * shape[1]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


@pytest.mark.parametrize(("dtype", "is_converted"), [("float32", False), ("bfloat16", True)])
def test_layers_are_told_from_what_every_rank_keeps(tmp_path: Path, dtype: str, is_converted: bool) -> None:
    embeddings, layer = ("F32", [10, 4]), ("F32", [4, 4])
    write_safetensors(tmp_path / "a.safetensors", **{"model.embed": embeddings, "model.layers.0.up": layer})
    write_safetensors(tmp_path / "b.safetensors", **{"model.layers.1.up": layer})
    config = SimpleNamespace(vocab_size=10, hidden_size=4)
    assert read_contents(tmp_path, config, dtype) == Contents(
        layer_count=32, whole_count=40, head_count=40, is_converted=is_converted
    )


def contents(*, is_converted: bool = False) -> Contents:
    return Contents(layer_count=1024, whole_count=512, head_count=256, is_converted=is_converted)


@pytest.mark.parametrize("rank_count", [1, 2, 4])
def test_mapped_weights_are_there_once_however_many_ranks(rank_count: int) -> None:
    taken = weight_bytes(contents(), element_bytes=4, is_int8=False, rank_count=rank_count)
    assert taken == WeightBytes(starting=1536 * 4, serving=1536 * 4)


def test_eight_bit_weights_lie_beside_the_float_ones_until_those_of_the_layers_go() -> None:
    taken = weight_bytes(contents(), element_bytes=4, is_int8=True, rank_count=2)
    packed = 1280 + 1280 // 256 * 4
    assert taken == WeightBytes(starting=1536 * 4 + packed, serving=512 * 4 + packed)


def test_converted_weights_are_whole_on_every_rank_until_they_are_sharded() -> None:
    taken = weight_bytes(contents(is_converted=True), element_bytes=4, is_int8=False, rank_count=2)
    assert taken == WeightBytes(starting=2 * 1536 * 4, serving=(2 * 512 + 1024) * 4)


def test_a_host_keeps_its_share_of_the_layers_alone() -> None:
    taken = weight_bytes(contents(), element_bytes=4, is_int8=False, rank_count=1, host_count=4)
    assert taken == WeightBytes(starting=1536 * 4, serving=(512 + 256) * 4)


def test_keys_and_values_of_heads_that_ranks_can_not_share_evenly_count_for_the_one_with_more() -> None:
    config = SimpleNamespace(num_hidden_layers=2, num_key_value_heads=3, num_attention_heads=6, head_dim=8)
    assert kv_bytes(config, 10, 4) == 2 * 2 * 3 * 8 * 4 * 10
    assert kv_bytes(config, 10, 4, rank_count=2) == 2 * 2 * 2 * 8 * 4 * 10


def machine(tmp_path: Path, groups: str, **folders: dict[str, str]) -> int:
    """What is available with 8 GiB on the machine and these control groups."""
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    (proc / "self" / "cgroup").write_text(groups)
    for path, files in folders.items():
        folder = cgroup / path.replace("__", "/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
    return available_bytes(proc, cgroup)


def second(limit: str, current: int, cached: int = 0) -> dict[str, str]:
    return {"memory.max": limit, "memory.current": str(current), "memory.stat": f"anon 1\ninactive_file {cached}\n"}


def first(limit: int, usage: int, cached: int) -> dict[str, str]:
    return {
        "memory.limit_in_bytes": str(limit),
        "memory.usage_in_bytes": str(usage),
        "memory.stat": f"cache 1\ntotal_inactive_file {cached}\n",
    }


def test_without_a_limit_the_machine_s_memory_counts(tmp_path: Path) -> None:
    assert machine(tmp_path, "0::/own\n", own=second("max", 5)) == 8 * GIB


def test_cached_files_count_as_left_within_a_limit(tmp_path: Path) -> None:
    assert machine(tmp_path, "0::/own\n", own=second(str(GIB), 600 * MIB, 200 * MIB)) == GIB - 400 * MIB


def test_the_tightest_of_the_groups_around_it_counts(tmp_path: Path) -> None:
    left = machine(tmp_path, "0::/outer/own\n", outer__own=second(str(4 * GIB), 0), outer=second(str(2 * GIB), GIB))
    assert left == GIB


def test_control_groups_of_version_1_count_as_well(tmp_path: Path) -> None:
    left = machine(tmp_path, "5:cpu:/x\n4:memory:/job\n", memory__job=first(3 * GIB, 2 * GIB, GIB // 2))
    assert left == GIB + GIB // 2


def test_a_container_that_sees_its_own_group_as_the_outermost_finds_its_limit(tmp_path: Path) -> None:
    files = second(str(GIB), 0)
    assert machine(tmp_path, "0::/not/to/be/seen\n", **{".": files}) == GIB
