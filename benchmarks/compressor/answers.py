"""A real reader's greedy answers, each kept in a file as soon as it is there, so that a cut run goes on where it was.

The reader is a model in an engine process of our own. One with a chat template is asked in it. A base model has none,
so two made-up examples show it what an answer looks like; they come before every prompt alike and are no part of what
is compressed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from services.inference.engine.messages import AddSequence, PromptScored, Sampling, StepDone, Stopping
from services.inference.models.store import resolve
from services.inference.requests import Prompt
from services.inference.text import load_text_model
from tests.support.engine_process import CACHE_DIR, EngineUnderTest

MODEL = "packaged:gemma3-270m"
LONGEST_ANSWER_TOKENS = 32
CONTEXT_TOKENS = 8192
STEP_TOKENS = 2048
EXAMPLES = """Write a short answer, using only the search results below.

Document [1](Title: Halden Bridge) The Halden Bridge crosses the river Orre. It was opened in 1932 by the mayor, Ada Lund.
Document [2](Title: Halden Museum) The museum of Halden holds 4,000 objects, most of them tools of fishermen.

Question: who opened the halden bridge?
Answer: Ada Lund

Write a short answer, using only the search results below.

Document [1](Title: Marrow Lake) Marrow Lake is the deepest lake of the Tenner valley. Perch and pike live in it.
Document [2](Title: Tenner Railway) The railway to Tenner was built from 1871 to 1874 and closed in 1959.

Question: when did the tenner railway close?
Answer: 1959

"""  # noqa: E501


class Reader:
    """A context manager; the engine starts with the first question that no file answers."""

    def __init__(self, file: Path, *, model: str = MODEL, dtype: str = "int8", threads: int = 2) -> None:
        found = resolve(model, CACHE_DIR)
        self.name = f"{Path(model).name}, {dtype}, {found.revision[:12]}"
        self._dtype = dtype
        self.directory = found.directory
        self._text = load_text_model(found.directory)
        self._threads = threads
        self._file = file
        self._known = _read(file)
        self._engine: EngineUnderTest | None = None
        self._next_id = 0

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._engine:
            self._engine.__exit__()

    async def count(self, texts: Sequence[str]) -> int:
        """Tokens of these texts: what an instance of this model would count."""
        return sum(self.count_one(text) for text in texts)

    def count_one(self, text: str) -> int:
        return len(self._text.encode(Prompt(text=text, is_raw=True))) - 1

    def answers(self, prompts: Sequence[str]) -> list[str]:
        """The first line that the reader writes after each prompt."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if self._key(prompt) not in self._known]
        if missing:
            engine = self._started()
            asked = {self._new_id(): prompt for prompt in missing}
            drawn = engine.generate(self._question(number, prompt) for number, prompt in asked.items())
            for number, prompt in asked.items():
                self._keep(self._key(prompt), _first_line(self._text.decode(drawn[number])))
        return [self._known[self._key(prompt)] for prompt in prompts]

    def information(self, text: str) -> list[tuple[int, float]]:
        """Of each token of a text but the first: its id and its log-probability after those before it."""
        engine, ids = self._started(), self._text.encode(Prompt(text=text, is_raw=True))
        number = self._new_id()
        engine.channel.write(
            AddSequence(
                sequence_id=number,
                prompt_ids=ids,
                sampling=Sampling(temperature=0.0),
                stopping=Stopping(max_tokens=1),
                prompt_logprobs=0,
            )
        )
        scored: PromptScored | None = None
        while True:
            event = engine.read()
            if isinstance(event, PromptScored):
                scored = event
            if isinstance(event, StepDone) and any(token.finish for token in event.tokens):
                break
        assert scored
        return list(zip(ids[1:], (one.logprob for one in scored.drawn), strict=True))

    def decode(self, ids: Sequence[int]) -> str:
        return self._text.decode(ids)

    def _question(self, number: int, prompt: str) -> AddSequence:
        line_end = self._text.encode(Prompt(text="\n", is_raw=True))[-1:]
        stop = (*self._text.eos_token_ids, *(() if self._is_asked_in_chat else line_end))
        return AddSequence(
            sequence_id=number,
            prompt_ids=self._text.encode(self._whole(prompt)),
            sampling=Sampling(temperature=0.0),
            stopping=Stopping(max_tokens=LONGEST_ANSWER_TOKENS, stop_token_ids=stop),
        )

    def _started(self) -> EngineUnderTest:
        if self._engine is None:
            print(f"reader: starting {self.name}", file=sys.stderr, flush=True)
            self._engine = EngineUnderTest(
                self.directory,
                kv_tokens=4 * CONTEXT_TOKENS,
                context_tokens=CONTEXT_TOKENS,
                max_sequences=16,
                step_tokens=STEP_TOKENS,
                dtype="float32" if self._dtype == "int8" else self._dtype,
                quantization="int8" if self._dtype == "int8" else "none",
                threads=self._threads,
            )
            self._engine.ready()
        return self._engine

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    @property
    def _is_asked_in_chat(self) -> bool:
        return bool(self._text.template_digest)

    def _whole(self, prompt: str) -> Prompt:
        if self._is_asked_in_chat:
            return Prompt(text=prompt)
        return Prompt(text=f"{EXAMPLES}{prompt}\nAnswer:", is_raw=True)

    def _key(self, prompt: str) -> str:
        asked = f"{self.name}\0{self._text.template_digest}\0{LONGEST_ANSWER_TOKENS}\0{self._whole(prompt).text}"
        return hashlib.sha256(asked.encode()).hexdigest()[:32]

    def _keep(self, key: str, answer: str) -> None:
        self._known[key] = answer
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as out:
            out.write(json.dumps({"key": key, "answer": answer}) + "\n")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip()


def _read(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    rows = map(json.loads, filter(None, file.read_text().splitlines()))
    return {row["key"]: row["answer"] for row in rows}
