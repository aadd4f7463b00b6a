"""Compiling the kernels: once per source, compiler and processor, shared by all engines of this machine's user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

_SOURCES = Path(__file__).parent
_COMPILERS = ("g++", "c++", "clang++")
# No -ffast-math: NaN must stay NaN, and sums must not depend on the compiler's mood.
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno")
_TIMEOUT_S = 120.0
_NEEDED_FEATURES = {"avx2", "fma"}


class NoKernels(Exception):
    """The kernels can't be had here; the text says why and what to do."""


def build(cache_dir: Path) -> Path:
    """The compiled library, made now if need be (about five seconds). Raises NoKernels."""
    compiler = _require_compiler()
    _require_processor()
    library = cache_dir / "kernels" / f"{_digest(compiler)}.so"
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with (library.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not library.exists():
                _compile(compiler, library)
    except OSError as problem:
        raise NoKernels(f"they could not be written to {library.parent}: {problem.strerror}") from problem
    return library


def _require_compiler() -> str:
    for name in _COMPILERS:
        if found := shutil.which(name):
            return found
    raise NoKernels("no C++ compiler was found; install g++")


def _require_processor() -> None:
    missing = _NEEDED_FEATURES - _processor_features()
    if missing:
        raise NoKernels(f"the processor lacks {', '.join(sorted(missing))}")


def _processor_features() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def _digest(compiler: str) -> str:
    """A name that changes with whatever the library depends on: `-march=native` code is for one kind of processor."""
    digest = hashlib.blake2b(digest_size=16)
    for source in sorted([*_SOURCES.glob("*.cpp"), *_SOURCES.glob("*.h")]):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False, timeout=_TIMEOUT_S).stdout
    features = " ".join(sorted(_processor_features()))
    digest.update("\0".join([*_FLAGS, platform.machine(), features]).encode() + version)
    return digest.hexdigest()


def _compile(compiler: str, library: Path) -> None:
    """Under another name first, so that a build that was killed leaves nothing that looks finished."""
    unfinished = library.with_suffix(f".{os.getpid()}")
    sources = [str(source) for source in sorted(_SOURCES.glob("*.cpp"))]
    try:
        done = subprocess.run(
            [compiler, *_FLAGS, *sources, "-o", str(unfinished)], capture_output=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise NoKernels(f"{compiler} failed: {_first_error(done.stderr)}")
        unfinished.rename(library)
    except subprocess.TimeoutExpired as problem:
        raise NoKernels(f"{compiler} took over {_TIMEOUT_S:g} s") from problem
    finally:
        unfinished.unlink(missing_ok=True)


def _first_error(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else "no message")
