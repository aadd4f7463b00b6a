"""What selection keeps of what an answer needs, at which size, and the time that it takes.

Sizes are in tokens of the demo model where it has been converted, else estimates; markers of left-out runs count.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from tokenizers import Tokenizer

from benchmarks.compressor import formats
from benchmarks.compressor.selection_data import (
    Case,
    chat_cases,
    document_cases,
    hop_cases,
    meeting_cases,
    tool_sets,
)
from benchmarks.report import Claim, Options, at_least, at_most, bootstrap, median_interval
from meshkit.clock import SystemClock
from meshkit.testing.loop_hold import longest_hold_s
from services.compressor.app import lossless_stages, packaged_selector
from services.compressor.live import live
from services.compressor.offload import Offload
from services.compressor.omission import kept_and_left
from services.compressor.pipeline import Order, Pipeline
from services.compressor.prompt_text import Part
from services.compressor.selection.port import Selector, Task
from services.compressor.shield import shield
from services.compressor.spans import Spans
from services.compressor.thinning import with_markers
from services.compressor.token_counter import estimated_tokens

DOCUMENTS, HOPS, MEETINGS, CHATS = "selection_documents", "selection_hops", "selection_meetings", "selection_chats"
SPEED, BLOCKING = "selection_speed_4000", "selection_blocking"
TOOLS = "selection_tools"
CLAIMS = [DOCUMENTS, HOPS, MEETINGS, CHATS, TOOLS, SPEED, BLOCKING]
SEED = 7
REPETITIONS = 15
TOOLS_SHARE = 0.25
NOUNS = "harbour engine council river orchard parcel museum signal violin ledger winter bridge"
VERBS = "opened closed repaired painted visited sold measured described crossed ended"


def measure(options: Options) -> Iterable[Claim]:
    count = token_counter()
    bars = {
        DOCUMENTS: (document_cases, 0.40, 0.98, "of answers kept"),
        HOPS: (hop_cases, 0.50, 0.95, "of evidence kept"),
        MEETINGS: (meeting_cases, 0.20, 0.90, "of gold words kept"),
        CHATS: (chat_cases, 0.25, 0.90, "of evidence turns kept"),
    }
    for name, (read, share, bar, unit) in bars.items():
        if options.wants(name):
            cases = list(read(options.data, is_held_out=True)) if options.data else []
            yield kept(name, cases[: 20 if options.is_smoke else None], share, bar, unit, count)
    if options.wants(TOOLS):
        sets = list(tool_sets(options.data, is_held_out=True)) if options.data else []
        yield tools(sets[: 20 if options.is_smoke else None])
    if options.wants(SPEED):
        yield speed(is_smoke=options.is_smoke)
    if options.wants(BLOCKING):
        yield blocking()


def kept(name: str, cases: Sequence[Case], share: float, bar: float, unit: str, count: Callable[[str], int]) -> Claim:
    """The mean over cases, with a 95 % interval by bootstrap over them."""
    if not cases:
        return Claim(name=name, value=None, unit=unit, bar=f">= {bar:g}", holds=None, detail="skipped: no data")
    selector = packaged_selector()
    found, sizes = [], []
    for case in cases:
        before = sum(count(part.text) for part in case.parts)
        text = sent(selector, case, share, count)
        found.append(case.kept_of_need(text))
        sizes.append(count(text) / before)
    low, high = bootstrap(found)
    value = statistics.mean(found)
    detail = f"{len(found)} prompts, {statistics.mean(sizes):.3f} of the tokens sent, at most {max(sizes):.3f}"
    return at_least(name, value, unit, bar, detail, low=low, high=high)


def sent(selector: Selector, case: Case, share: float, count: Callable[[str], int]) -> str:
    """All texts that go out, markers included."""
    found = live(case.parts, keeps_answers=False)
    shields = []
    for part, ranges in zip(case.parts, found.pinned, strict=True):
        own = shield(part.text, protect=(), frozen_chars=0)
        shields.append(type(own)(hard=Spans([*own.hard, *ranges]), marked=own.marked, fenced=own.fenced, protect=()))
    budget = int(share * sum(count(part.text) for part in case.parts))
    task = Task(parts=case.parts, shields=tuple(shields), query=found.query, budget_tokens=budget, count=count)
    chosen = selector.select(task).parts
    runs = [
        kept_and_left(part.text, pieces, own) for part, pieces, own in zip(case.parts, chosen, shields, strict=True)
    ]
    return "\n".join(one.text for one in with_markers(case.parts, runs, None) if one.text)


def token_counter() -> Callable[[str], int]:
    """Tokens of one text, by the reader's tokenizer where there is one."""
    found = formats.tokenizer_file()
    if found is None:
        return lambda text: estimated_tokens([text])
    tokenizer = Tokenizer.from_file(str(found))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def tools(sets: Sequence[tuple[str, list[dict], set[str]]]) -> Claim:
    """Indented schemas through the whole pipeline: formats without loss, then whole tools left out."""
    bar = ">= 0.6 less, >= 0.99 kept"
    if not sets:
        return Claim(name=TOOLS, value=None, unit="", bar=bar, holds=None, detail="skipped: no data")
    reductions, found = [], []
    found_file = formats.tokenizer_file()
    counter = formats.FileTokenizer(found_file) if found_file else None
    pipeline = Pipeline(
        lossless_stages(),
        offload=Offload(least_chars=10**9, concurrency=1),
        clock=SystemClock(),
        selector=packaged_selector(),
    )
    for question, schemas, needed in sets:
        parts = (Part(role="tool", text=json.dumps(schemas, indent=2)), Part(role="user", text=question))
        order = Order(parts=parts, target_ratio=TOOLS_SHARE, is_selective=True)
        outcome = asyncio.run(pipeline.compress(order, counter))
        strings = [text for one in schemas if one["name"] in needed for text in strings_of(one)]
        found.append(float(all(json.dumps(text)[1:-1] in outcome.texts[0] for text in strings)))
        reductions.append(outcome.token_reduction)
    low, high = bootstrap(found)
    value, less = statistics.mean(found), statistics.mean(reductions)
    detail = f"{len(found)} prompts, {less:.3f} fewer tokens in the mean, at least {min(reductions):.3f}"
    holds = value >= 0.99 and less >= 0.6
    return Claim(
        name=TOOLS, value=value, unit="of true tools kept", bar=bar, holds=holds, low=low, high=high, detail=detail
    )


def strings_of(value: object) -> Iterator[str]:
    """All names and descriptions in a schema."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings_of(inner)


def made_up(seed: int, token_count: int = 4000) -> str:
    draw = random.Random(seed)
    nouns, verbs = NOUNS.split(), VERBS.split()
    lines: list[str] = []
    while sum(map(len, lines)) < 4 * token_count:
        if len(lines) % 8 == 0:
            lines.append(f"\n\nDocument {len(lines) // 8 + 1}: ")
        a, b = draw.sample(nouns, 2)
        lines.append(
            f"In {draw.randint(1800, 2020)} the {a} of {b}ville was {draw.choice(verbs)} by {a}son and {b}man. "
        )
    return "".join(lines)


def made_up_questions() -> Iterator[tuple[str, str]]:
    """Prompts of six documents, each with its answer."""
    draw = random.Random(SEED)
    for _ in range(2):
        places = draw.sample(NOUNS.split(), 6)
        lines = [
            f"Document [{i}](Title: {one}) The {one} was opened by {one}man. {made_up(i, token_count=60).strip()}"
            for i, one in enumerate(places, 1)
        ]
        body = "\n".join(lines)
        yield f"Write a short answer.\n\n{body}\n\nQuestion: who opened the {places[3]}?", f"{places[3]}man"


def speed(*, is_smoke: bool) -> Claim:
    """Prompts of 4,000 estimated tokens, each seen for the first time, the tables loaded."""
    selector = packaged_selector()
    times_ms = []
    for seed in range(3 if is_smoke else REPETITIONS + 1):
        started = time.perf_counter()
        thin_made_up(selector, seed)
        times_ms.append((time.perf_counter() - started) * 1000)
    middle, low, high = median_interval(times_ms[1:])
    return at_most(
        SPEED, middle, "ms", 150, f"slowest {max(times_ms[1:]):.0f}; first {times_ms[0]:.0f}", low=low, high=high
    )


def blocking() -> Claim:
    """Longest time for which a selection in a thread keeps the event loop from running."""
    selector = packaged_selector()
    thin_made_up(selector, 0)

    async def held() -> float:
        return await longest_hold_s(asyncio.to_thread(thin_made_up, selector, 1))

    return at_most(
        BLOCKING, asyncio.run(held()) * 1000, "ms", 50, "in a thread; what remains is the interpreter's lock"
    )


def thin_made_up(selector: Selector, seed: int) -> str:
    parts = (Part(role="tool", text=made_up(seed)), Part(role="user", text="Who repaired the bridge in winterville?"))
    return sent(selector, Case(parts=parts, kept_of_need=lambda sent: 1.0), 0.4, lambda text: estimated_tokens([text]))
