"""What the lossless stages save on real payloads, whether everything can be read back, and the time it takes.

`--data DIR` names a folder with `structured_payloads/*.json`, `structured_payloads/*/*.xml`, `tools_bfcl/*.jsonl` and
`logs_loghub/*.log`. Tokens are those of the packaged demo model where it has been converted (`make up` does), else
estimates.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.report import Claim, Options, at_most, median_interval, skipped
from meshkit.clock import SystemClock
from services.compressor.app import lossless_stages
from services.compressor.offload import Offload
from services.compressor.pipeline import Order, Outcome, Pipeline
from services.compressor.prompt_text import Part
from services.compressor.stages.log_template import LogTemplate
from services.compressor.stages.restoring import restored
from services.compressor.stages.stage import Stage

PAYLOADS, TOOLS, LOGS = "lossless_payloads", "lossless_tools", "lossless_logs"
VALUES, SPEED, GROWTH = "values_equal", "speed_4000_tokens", "time_grows_with_length"
CLAIMS = [PAYLOADS, TOOLS, LOGS, VALUES, SPEED, GROWTH]
EVERY_NTH_TOOL_SET = 10
REPETITIONS = 40
PROMPT_CHARS = 16_000
LARGE_CHARS, SMOKE_CHARS = 10_000_000, 100_000
AS_ROWS = tuple(stage for stage in lossless_stages() if not isinstance(stage, LogTemplate))


class FileTokenizer:
    """A TokenCounter over a tokenizer.json."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))

    async def count(self, texts) -> int:
        return sum(len(self._tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)


def tokenizer_file() -> Path | None:
    """Of the demo model, Gemma 3, once it has been converted; other models may lie beside it."""
    for config in sorted(Path(".cache/models/converted").glob("*/config.json")):
        tokenizer = config.with_name("tokenizer.json")
        if json.loads(config.read_text()).get("model_type", "").startswith("gemma3") and tokenizer.exists():
            return tokenizer
    return None


def measure(options: Options) -> Iterable[Claim]:
    found = tokenizer_file()
    counter = FileTokenizer(found) if found else None
    unit = "share of tokens of the demo model" if counter else "share of tokens, estimated"
    payloads, logs = [dict(read(options.data)) if options.data else {} for read in (read_payloads, read_logs)]
    tools = list(read_tools(options.data)) if options.data else []
    if options.wants(PAYLOADS):
        yield reductions(PAYLOADS, list(payloads.values()), counter, unit, bar=0.4)
    if options.wants(TOOLS):
        yield reductions(TOOLS, tools, counter, unit, bar=0.3)
    if options.wants(LOGS):
        yield logs_reduced(logs, counter, unit, bar=0.6)
    if options.wants(VALUES):
        yield values_equal(payloads, tools, logs)
    if options.wants(SPEED):
        yield speed([*payloads.values(), *logs.values()], 2 if options.is_smoke else REPETITIONS)
    if options.wants(GROWTH):
        yield growth(SMOKE_CHARS if options.is_smoke else LARGE_CHARS)


def reductions(name: str, texts: list[str], counter: FileTokenizer | None, unit: str, *, bar: float) -> Claim:
    if not texts:
        return skipped(name, unit, f">= {bar:g}", "no data")
    found = [compress(text, counter).token_reduction for text in texts]
    middle, low, high = median_interval(found)
    detail = f"median of {len(found)}, {min(found):.3f} to {max(found):.3f}"
    holds = middle >= bar and min(found) >= 0
    return Claim(name=name, value=middle, unit=unit, bar=f">= {bar:g}", holds=holds, low=low, high=high, detail=detail)


def logs_reduced(texts: dict[str, str], counter: FileTokenizer | None, unit: str, *, bar: float) -> Claim:
    """All logs together, in the shortest format; it holds where each of them is at the bar."""
    if not texts:
        return skipped(LOGS, unit, f">= {bar:g} each", "no data")
    outcomes = {file: compress(text, counter) for file, text in texts.items()}
    before = sum(outcome.original_tokens for outcome in outcomes.values())
    after = sum(outcome.compressed_tokens for outcome in outcomes.values())
    each = ", ".join(f"{file} {outcome.token_reduction:.3f}" for file, outcome in outcomes.items())
    spoken = ", ".join(f"{file} {compress(text, counter, AS_ROWS).token_reduction:.3f}" for file, text in texts.items())
    return Claim(
        name=LOGS,
        value=1 - after / before,
        unit=unit,
        bar=f">= {bar:g} each",
        holds=all(outcome.token_reduction >= bar for outcome in outcomes.values()),
        detail=f"together; {each}; as rows, which is the default: {spoken}",
    )


def values_equal(payloads: dict[str, str], tools: list[str], logs: dict[str, str]) -> Claim:
    """JSON by its values, XML by its elements, logs to the byte."""
    pairs = [(name.rpartition(".")[2], text) for name, text in (payloads | logs).items()]
    pairs += [("json", text) for text in tools]
    if not pairs:
        return skipped(VALUES, "share of texts", ">= 1", "no data")
    equal = [is_equal(form, text, restored(compress(text, None).texts[0])) for form, text in pairs]
    equal += [is_equal("log", text, restored(compress(text, None, AS_ROWS).texts[0])) for text in logs.values()]
    share = statistics.mean(equal)
    detail = f"{len(payloads)} payloads, {len(tools)} tool sets, {len(logs)} logs in both formats"
    return Claim(name=VALUES, value=share, unit="share of texts", bar=">= 1", holds=share == 1, detail=detail)


def is_equal(form: str, before: str, after: str) -> bool:
    if form == "json":
        return bool(json.loads(before) == json.loads(after))
    return elements(before) == elements(after) if form == "xml" else before == after


def elements(xml: str) -> tuple[object, ...]:
    """Names, attributes, text, comments and instructions in order; white space between elements is layout."""

    def told(element: ET.Element) -> tuple[object, ...]:
        text = element.text or ""
        children = [(told(child), (child.tail or "") if (child.tail or "").strip() else "") for child in element]
        return element.tag, dict(element.attrib), "" if len(element) and not text.strip() else text, children

    return told(ET.fromstring(xml, ET.XMLParser(target=ET.TreeBuilder(insert_comments=True, insert_pis=True))))


def speed(texts: list[str], repetitions: int) -> Claim:
    """Prompts of about 4,000 tokens: made-up ones, prose, what is of that size and the beginning of what is larger."""
    made_up = [made(PROMPT_CHARS) for made in (made_up_json, made_up_xml, made_up_log)]
    prompts = [
        *made_up,
        "One sentence of prose. " * 700,
        *(text for text in texts if PROMPT_CHARS // 2 <= len(text) <= PROMPT_CHARS),
    ]
    prompts += [text[: text.rfind("\n", 0, PROMPT_CHARS)] for text in texts if len(text) > PROMPT_CHARS]
    times_ms = []
    for _ in range(repetitions):
        for prompt in prompts:
            started = time.perf_counter()
            compress(prompt, None)
            times_ms.append((time.perf_counter() - started) * 1000)
    middle, low, high = median_interval(times_ms)
    detail = f"{len(prompts)} prompts, slowest of {len(times_ms)}: {max(times_ms):.1f} ms"
    return at_most(SPEED, middle, "ms", 30, detail, low=low, high=high)


def growth(chars: int) -> Claim:
    """Time per character at full size over that at an eighth, the worst of JSON, XML, logs and broken JSON."""
    ratios, details = [], []
    forms = (made_up_json, made_up_xml, made_up_log, lambda size: made_up_json(size)[:-1])
    for name, made in zip(("JSON", "XML", "log", "broken JSON"), forms, strict=True):
        small, large = cpu_s(made(chars // 8)), cpu_s(made(chars))
        ratios.append(large / small / 8)
        details.append(f"{name} {large:.1f} s")
    return at_most(GROWTH, max(ratios), "times", 2, f"{chars:,} characters: {', '.join(details)}")


def cpu_s(text: str) -> float:
    started = time.process_time()
    compress(text, None)
    return time.process_time() - started


def made_up_json(chars: int) -> str:
    count = max(1, chars // 75)
    return json.dumps([{"id": i, "name": f"name {i}", "tags": ["a", "b"]} for i in range(count)], indent=1)


def made_up_xml(chars: int) -> str:
    row = '  <item id="{0}">\n    <name>name {0}</name>\n    <at><x>{0}</x><y>1</y></at>\n  </item>\n'
    return "<items>\n" + "".join(row.format(i) for i in range(max(1, chars // len(row)))) + "</items>"


def made_up_log(chars: int) -> str:
    row = "2024-05-01 10:{:02d}:{:02d} INFO worker {} request {} took {} ms\n"
    return "".join(row.format(i // 60 % 60, i % 60, i % 7, i, i % 13) for i in range(max(1, chars // 60)))


def compress(text: str, counter: FileTokenizer | None, stages: Sequence[Stage] | None = None) -> Outcome:
    pipeline = Pipeline(
        stages or lossless_stages(), offload=Offload(least_chars=10**9, concurrency=1), clock=SystemClock()
    )
    return asyncio.run(pipeline.compress(Order(parts=(Part(role="tool", text=text),)), counter))


def read_payloads(data: Path) -> Iterator[tuple[str, str]]:
    folder = data / "structured_payloads"
    for path in sorted((*folder.glob("*.json"), *folder.glob("*/*.xml"))):
        yield path.name, path.read_text()


def read_logs(data: Path) -> Iterator[tuple[str, str]]:
    """As they are on disk, line ends included."""
    for path in sorted((data / "logs_loghub").glob("*.log")):
        yield path.name, path.read_bytes().decode()


def read_tools(data: Path) -> Iterator[str]:
    """Every tenth set of tool definitions, indented as people paste them."""
    for path in sorted((data / "tools_bfcl").glob("*.jsonl")):
        for line in path.read_text().splitlines()[::EVERY_NTH_TOOL_SET]:
            yield json.dumps(json.loads(line)["function"], indent=2)
