"""GGUF files, converted once to safetensors in a directory named after the file's digest.

The conversion runs in a process of its own, since it needs torch and the whole model in memory. It writes into a
temporary directory that is renamed when complete; a lock keeps two starts from converting at the same time.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services.inference.models.errors import ModelError

OnProgress = Callable[[str, float], None]
Convert = Callable[[Path, Path, OnProgress], None]

FORMAT = "v1"  # changes whenever a conversion would come out differently
_MAGIC = b"GGUF"


def run_converter(gguf_file: Path, target: Path, on_progress: OnProgress) -> None:
    """Convert into `target`, in a process that prints one JSON array a line: [stage, fraction]."""
    command = [sys.executable, "-m", "services.inference.models.convert", str(gguf_file), str(target)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    try:
        for line in process.stdout:
            last, fraction = json.loads(line)
            on_progress(last, float(fraction))
    except BaseException:
        process.kill()
        raise
    finally:
        process.stdout.close()
        status = process.wait()
    if status != 0:
        problem = last if status == 1 and last else f"the converter ended with status {status}"
        raise ModelError(f"{gguf_file} could not be converted: {problem}", _advice(status))


def converted_directory(
    gguf_file: Path, digest: str, cache_dir: Path, on_progress: OnProgress, convert: Convert = run_converter
) -> Path:
    """The converted checkpoint of the file whose digest is `digest`; made now if it isn't there. Raises ModelError."""
    target = cache_dir / "converted" / f"{digest[:32]}-{FORMAT}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(target.with_suffix(".lock")):
        if not target.is_dir():
            _into_place(gguf_file, target, on_progress, convert)
    return target


def _into_place(gguf_file: Path, target: Path, on_progress: OnProgress, convert: Convert) -> None:
    """Under the lock: what a killed conversion of the same file left is removed first."""
    prefix = f".{target.name}-"
    for left_over in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        convert(gguf_file, temporary, on_progress)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _advice(status: int) -> str:
    if status == -9:
        return "It was killed, most likely for want of memory: free some, or choose a smaller model."
    return "The log has the details; a safetensors version of the model would need no conversion."


def check_magic(gguf_file: Path) -> None:
    """Raises ModelError if the file is absent or something else."""
    if not gguf_file.is_file():
        raise ModelError(f"{gguf_file} does not exist", "Check the path.")
    with gguf_file.open("rb") as stream:
        if stream.read(4) != _MAGIC:
            raise ModelError(f"{gguf_file} is not a GGUF file", "Fetch or copy it again.")


@contextmanager
def _exclusive(lock_file: Path) -> Iterator[None]:
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
