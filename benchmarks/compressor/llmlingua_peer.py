"""LongLLMLingua (Jiang et al. 2023) as a peer: the package `llmlingua` with a small causal model as its compressor.

The package needs an older transformers than ours, so it lives in an environment of its own, made here on first use, and
is asked through a pipe. What it made of a prompt is kept in a file, so that a run that is cut goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from benchmarks.compressor.llmlingua_worker import SETTINGS
from benchmarks.compressor.peers import Asked, Information, Tokens

NAME = "LongLLMLingua"
ROOT = Path(__file__).parents[2]
DIRECTORY = Path(".cache/benchmarks/llmlingua")
# torch alone first: on its own pip takes the build that this machine's index prefers.
REQUIREMENTS = (("torch==2.13.0",), ("llmlingua==0.2.2", "transformers==4.46.3"))
PATIENCE_S = 1800.0
TRIES, NEAR, AIM = 4, 0.95, 0.98
"""How often a size is tried, the share of the budget that is near enough, and the share that a new try aims at."""


class NoPeer(Exception):
    """Why the peer can't be had or can't go on."""


class LongLLMLingua:
    """A context manager and a Peer: call it as the others. The environment is made when it is entered, the model is
    loaded with the first prompt that no file answers."""

    def __init__(self, model: Path, *, directory: Path = DIRECTORY, threads: int = 2, dtype: str = "bfloat16") -> None:
        self._model, self._directory, self._threads, self._dtype = model.resolve(), directory, threads, dtype
        self._file = directory / "compressed.jsonl"
        self._known: dict[str, str] = {}
        self._worker: _Worker | None = None

    def __enter__(self) -> LongLLMLingua:
        if not (self._model / "config.json").exists():
            raise NoPeer(f"no model in {self._model}")
        self._python = environment(self._directory)
        self._known = _read(self._file)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._worker:
            self._worker.close()

    def __call__(self, prompt: Asked, budget_tokens: int, tokens: Tokens, information: Information) -> str:
        """The documents within so many tokens of the reader's, and as near to them as a few tries come. Where the
        package fails at every size, the first words of the documents."""
        documents = prompt.documents.split("\n\n" if "\n\n" in prompt.documents else "\n")
        target, best, text = max(1, int(AIM * budget_tokens)), "", ""
        for _ in range(TRIES):
            try:
                text = self._compressed(documents, prompt.question, target)
            except _Failed as error:
                _say(f"failed at {target} tokens: {error}")
                target = max(1, int(target * AIM))
                continue
            size = tokens.count(text)
            if size <= budget_tokens and size > tokens.count(best):
                best = text
            if NEAR * budget_tokens <= size <= budget_tokens:
                break
            target = max(1, int(target * AIM * budget_tokens / max(1, size)))
        return best or _cut(text or prompt.documents, budget_tokens, tokens)

    def _compressed(self, documents: Sequence[str], question: str, target: int) -> str:
        asked = {"documents": list(documents), "question": question, "target_token": target}
        key = hashlib.sha256(json.dumps([self._made_by(), asked], sort_keys=True).encode()).hexdigest()[:32]
        if key not in self._known:
            self._known[key] = self._started().ask(asked)
            with self._file.open("a") as out:
                out.write(json.dumps({"key": key, "text": self._known[key]}) + "\n")
        return self._known[key]

    def _made_by(self) -> list[Any]:
        return [REQUIREMENTS, self._model.name, self._dtype, SETTINGS]

    def _started(self) -> _Worker:
        if self._worker is None:
            _say(f"loading {self._model.name} in {self._dtype}")
            arguments = [str(self._model), str(self._threads), self._dtype]
            self._worker = _Worker(self._python, arguments, self._directory / "worker.log", self._threads)
        return self._worker


def environment(directory: Path) -> Path:
    """The interpreter of an environment with the package; made where there is none or it is not whole."""
    home = directory / "venv"
    python, whole, log = home / "bin" / "python", home / "whole", directory / "pip.log"
    wanted = json.dumps(REQUIREMENTS)
    if whole.exists() and whole.read_text() == wanted:
        return python
    _say(f"making its environment in {home}: minutes, and 1.2 GB")
    directory.mkdir(parents=True, exist_ok=True)
    with log.open("w") as said:
        for command in (
            [sys.executable, "-m", "venv", str(home)],
            *([str(python), "-m", "pip", "install", *needs] for needs in REQUIREMENTS),
        ):
            _say(" ".join(command))
            if subprocess.run(command, stdout=said, stderr=said, check=False).returncode:
                said.flush()
                raise NoPeer(f"no environment for {NAME}: {_last_line(log)}; see {log}")
    whole.write_text(wanted)
    return python


class _Failed(Exception):
    """One prompt at one size could not be compressed."""


class _Worker:
    """Our end of the pipe."""

    def __init__(self, python: Path, arguments: Sequence[str], log: Path, threads: int) -> None:
        self._log = log
        command = [str(python.absolute()), "-m", "benchmarks.compressor.llmlingua_worker", *arguments]
        limits = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        try:
            with log.open("w") as said:
                self._process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=os.environ | limits,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    text=True,
                )
        except OSError as error:
            raise NoPeer(f"{NAME} does not start: {error}") from error
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, asked: dict[str, Any]) -> str:
        stdin = _piped(self._process.stdin)
        try:
            stdin.write(json.dumps(asked) + "\n")
            stdin.flush()
        except BrokenPipeError as error:
            raise NoPeer(f"{NAME} ended: {_last_line(self._log)}") from error
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> str:
        stdout = _piped(self._process.stdout)
        readable, _, _ = select.select([stdout], [], [], PATIENCE_S)
        line = stdout.readline() if readable else ""
        if not line:
            raise NoPeer(f"{NAME} {'ended' if readable else 'gave no answer'}: {_last_line(self._log)}")
        answer = json.loads(line)
        if "error" in answer:
            raise _Failed(answer["error"])
        return str(answer["text"])


def _cut(text: str, budget_tokens: int, tokens: Tokens) -> str:
    """As many of the first words as fit."""
    words = text.split(" ")
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if tokens.count(" ".join(words[:middle])) <= budget_tokens:
            low = middle
        else:
            high = middle - 1
    return " ".join(words[:low])


def _piped(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "without a word"


def _read(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    rows = map(json.loads, filter(None, file.read_text().splitlines()))
    return {row["key"]: row["text"] for row in rows}


def _say(text: str) -> None:
    print(f"{NAME}: {text}", file=sys.stderr, flush=True)
