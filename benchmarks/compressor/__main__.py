"""Tokens saved on real payloads by the lossless stages, whether every value can be read back, and the time it takes.

`--data DIR` names a folder with `structured_payloads/*.json`, `structured_payloads/*/*.xml`, `tools_bfcl/*.jsonl` and
`logs_loghub/*.log`.
Tokens are those of the packaged demo model where it has been converted (`make up` does), else estimates.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.report import Claim, Options, at_most, median_interval, run
from meshkit.clock import SystemClock
from services.compressor.app import lossless_stages
from services.compressor.offload import Offload
from services.compressor.pipeline import Order, Outcome, Pipeline
from services.compressor.prompt_text import Part
from services.compressor.stages import log_template, record_table, xml_outline

PAYLOADS, TOOLS, LOGS, VALUES, SPEED = (
    "lossless_payloads",
    "lossless_tools",
    "lossless_logs",
    "values_equal",
    "speed_4000_tokens",
)
EVERY_NTH_TOOL_SET = 10
LINES_A_LOG = 500
REPETITIONS = 40


class FileTokenizer:
    """A TokenCounter over a tokenizer.json."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))

    async def count(self, texts) -> int:
        return sum(len(self._tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)


def measure(options: Options) -> Iterable[Claim]:
    found = sorted(Path(".cache/models/converted").glob("*/tokenizer.json"))
    counter = FileTokenizer(found[0]) if found else None
    unit = "share of tokens of the demo model" if counter else "share of tokens, estimated"
    payloads = list(read_payloads(options.data)) if options.data else []
    if options.wants(PAYLOADS):
        yield reductions(PAYLOADS, [text for _, text in payloads], counter, unit, bar=0.4)
    if options.wants(TOOLS):
        yield reductions(TOOLS, list(read_tools(options.data)) if options.data else [], counter, unit, bar=0.3)
    if options.wants(LOGS):
        logs = [text for _, text in read_logs(options.data)] if options.data else []
        yield reductions(LOGS, logs, counter, unit, bar=0.6)
    if options.wants(VALUES):
        yield values_equal([*payloads, *read_logs(options.data)] if options.data else [])
    if options.wants(SPEED):
        yield speed([text for name, text in payloads if name.endswith(".json")])


def reductions(name: str, texts: list[str], counter: FileTokenizer | None, unit: str, *, bar: float) -> Claim:
    if not texts:
        return skipped(name, unit)
    found = [compress(text, counter).token_reduction for text in texts]
    middle, low, high = median_interval(found)
    detail = f"median of {len(found)}, {min(found):.3f} to {max(found):.3f}"
    holds = middle >= bar and min(found) >= 0
    return Claim(name=name, value=middle, unit=unit, bar=f">= {bar:g}", holds=holds, low=low, high=high, detail=detail)


def values_equal(files: list[tuple[str, str]]) -> Claim:
    """JSON by its values, XML by its canonical form without layout, logs line by line."""
    if not files:
        return skipped(VALUES, "share of files")
    equal = [is_equal(name, text, compress(text, None).texts[0]) for name, text in files]
    share = statistics.mean(equal)
    detail = f"{len(equal)} files and stretches of logs"
    return Claim(name=VALUES, value=share, unit="share of files", bar=">= 1", holds=share == 1, detail=detail)


def is_equal(name: str, original: str, compressed: str) -> bool:
    if name.endswith(".json"):
        return bool(json.loads(record_table.expanded(compressed)) == json.loads(original))
    if name.endswith(".xml"):
        return without_layout(xml_outline.expanded(compressed)) == without_layout(original)
    lines = log_template.expanded(compressed).splitlines()
    return [line.rstrip() for line in lines] == [line.rstrip() for line in original.splitlines()]


def without_layout(xml: str) -> str:
    return ElementTree.canonicalize(xml, strip_text=True)


def speed(texts: list[str]) -> Claim:
    """Prompts of about 4,000 tokens cut from the payloads, or made up where there are none."""
    made_up = json.dumps([{"id": i, "name": f"name {i}", "tags": ["a", "b"]} for i in range(300)], indent=2)
    prompts = [f"Here:\n{text[:16_000]}" for text in texts] + [made_up[:16_000], "One sentence of prose. " * 700]
    times_ms = []
    for _ in range(REPETITIONS):
        for prompt in prompts:
            started = time.perf_counter()
            compress(prompt, None)
            times_ms.append((time.perf_counter() - started) * 1000)
    middle, low, high = median_interval(times_ms)
    detail = f"slowest of {len(times_ms)}: {max(times_ms):.1f} ms"
    return at_most(SPEED, middle, "ms", 30, detail, low=low, high=high)


def compress(text: str, counter: FileTokenizer | None) -> Outcome:
    pipeline = Pipeline(lossless_stages(), offload=Offload(least_chars=10**9, concurrency=1), clock=SystemClock())
    return asyncio.run(pipeline.compress(Order(parts=(Part(role="tool", text=text),)), counter))


def read_payloads(data: Path) -> Iterator[tuple[str, str]]:
    folder = data / "structured_payloads"
    for path in sorted((*folder.glob("*.json"), *folder.glob("*/*.xml"))):
        yield path.name, path.read_text()


def read_tools(data: Path) -> Iterator[str]:
    """Every tenth set of tool definitions, indented as people paste them."""
    for path in sorted((data / "tools_bfcl").glob("*.jsonl")):
        for line in path.read_text().splitlines()[::EVERY_NTH_TOOL_SET]:
            yield json.dumps(json.loads(line)["function"], indent=2)


def read_logs(data: Path) -> Iterator[tuple[str, str]]:
    """Logs as one pastes them: some hundred lines of each."""
    for path in sorted((data / "logs_loghub").glob("*.log")):
        lines = path.read_text().splitlines(keepends=True)
        for start in range(0, len(lines), LINES_A_LOG):
            yield path.name, "".join(lines[start : start + LINES_A_LOG])


def skipped(name: str, unit: str) -> Claim:
    return Claim(name=name, value=None, unit=unit, bar="", holds=None, detail="skipped: no data")


if __name__ == "__main__":
    run("compressor", "Measures the prompt compressor.", [PAYLOADS, TOOLS, LOGS, VALUES, SPEED], measure)
