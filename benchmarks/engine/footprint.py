"""Memory that keys and values take once every block has been written, against the size of the pool."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.engine.our_engine import OurEngine, finished_count
from benchmarks.engine.prompts import make_prompts
from benchmarks.engine.setup import Setup
from benchmarks.report import Claim, at_most, skipped

CLAIM = "kv_memory"
BAR = 2.0
SEQUENCES = 16
SMALL_TOKENS, LARGE_TOKENS = 2048, 16384
# What was freed at start goes back to the system, so that the pool can't hide in it.
PLAIN_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(256 * 1024)}
DRAWN_TOKENS = 128  # enough for the first sequence to be there still when the last one has been prefilled


def kv_memory(setup: Setup) -> Iterator[Claim]:
    """Growth of a full large pool over a full small one; what else the ranks allocate is the same in both."""
    if setup.is_smoke:
        yield skipped(CLAIM, "% off the pool", f"<= {BAR:g}", "a tiny model's pool is lost in the noise")
        return
    small, large = SMALL_TOKENS, LARGE_TOKENS
    small_bytes, _ = _filled_bytes(setup, small)
    large_bytes, words = _filled_bytes(setup, large)
    measured, expected = large_bytes - small_bytes, (large - small) * token_bytes(setup.model_dir)
    detail = (
        f"{small} -> {large} tokens: ranks' own memory grew by {measured / 2**20:.1f} MiB, the pool by "
        f"{expected / 2**20:.1f} MiB; {words}"
    )
    yield at_most(CLAIM, abs(measured / expected - 1) * 100, "% off the pool", BAR, detail)


def token_bytes(model_dir: Path) -> int:
    """Keys and values of one token in float32, all layers and ranks."""
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config") or config
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    return int(2 * config["num_hidden_layers"] * heads * width * 4)


def _filled_bytes(setup: Setup, kv_tokens: int) -> tuple[int, str]:
    """The ranks' own memory after every block was in use at once, and how that went."""
    length = kv_tokens // SEQUENCES
    drawn = min(DRAWN_TOKENS, length // 2)
    prompts = make_prompts(setup.model_dir, [length - drawn] * SEQUENCES, f"memory {kv_tokens}")
    with OurEngine(setup, PLAIN_HEAP, kv_tokens=kv_tokens, max_sequences=SEQUENCES) as engine:
        most_used = _run_together(engine, prompts, drawn)
        pids = engine.ready.rank_pids
        words = f"at most {most_used} of {kv_tokens} tokens in use; {_mapped_in_words(pids)}; {engine.in_words}"
        return own_bytes(pids), words


def _run_together(engine: OurEngine, prompts: Sequence[Sequence[int]], drawn: int) -> int:
    """The most tokens that were in use."""
    for prompt in prompts:
        engine.add(prompt, drawn)
    most, finished = 0, 0
    while finished < len(prompts):
        event = engine.step_done()
        most = max(most, event.load.kv_used_tokens)
        finished += finished_count(event)
    return most


def own_bytes(pids: Iterable[int]) -> int:
    """Anonymous memory of these processes; pages mapped from files are left out."""
    return sum(_status_bytes(pid, "RssAnon") for pid in pids)


def _mapped_in_words(pids: Iterable[int]) -> str:
    mapped = sorted(_status_bytes(pid, "RssFile") / 2**20 for pid in pids)
    return f"weights and libraries mapped from files, by rank: {', '.join(f'{size:.0f}' for size in mapped)} MiB"


def _status_bytes(pid: int, name: str) -> int:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024
