"""`python -m benchmarks.engine.product_worker PLAN`: time all products of one step with the kernel named on stdin.

PLAN is JSON: products, rows, threads, cache_dir (where compiled kernels are kept). First the names of the kernels are
printed, then one step's seconds a line.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.inference.engine.kernels.build import NoKernels, build
from services.inference.engine.kernels.native import Kernels

Apply = Callable[[Tensor], Tensor]
MakeProduct = Callable[[Tensor], Apply]
"""From weights [outputs, inputs] in float32 to a function of [rows, inputs]."""


def fbgemm(weights_NK: Tensor) -> Apply:
    """torch's dynamic int8: activations are quantised inside, to 7 bits, since 8 overflow on AVX2."""
    scales_N, zeros_N = weights_NK.abs().amax(1).double() / 127, torch.zeros(len(weights_NK), dtype=torch.int64)
    quantised = torch.quantize_per_channel(weights_NK, scales_N, zeros_N, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(quantised, None)
    return lambda input_RK: torch.ops.quantized.linear_dynamic(input_RK, packed, reduce_range=True)


def own_kernel(kernels: Kernels) -> MakeProduct:
    """The engine's, as its fast path calls it."""

    def make(weights_NK: Tensor) -> Apply:
        weight = kernels.pack_int8(weights_NK)
        return lambda input_RK: kernels.linear_int8(
            input_RK, weight, None, torch.empty(len(input_RK), weight.output_count)
        )

    return make


def available(cache_dir: Path, threads: int) -> Mapping[str, MakeProduct]:
    """By name, what this machine can run."""
    try:
        return {"FBGEMM": fbgemm, "own kernel": own_kernel(Kernels(build(cache_dir), threads))}
    except NoKernels:
        return {"FBGEMM": fbgemm}


def require_right(make: MakeProduct) -> None:
    """A product that is fast because it is wrong must not set the limit. Raises ArithmeticError."""
    weights_NK, input_RK = torch.randn(256, 128), torch.randn(8, 128)
    exact_RN = input_RK @ weights_NK.T
    if (make(weights_NK)(input_RK) - exact_RN).norm() > 0.05 * exact_RN.norm():
        raise ArithmeticError("the product is wrong")


def step_seconds(inputs: Sequence[Tensor], applied: Sequence[Apply]) -> float:
    """One pass over all products in the order of a step."""
    began_at = time.perf_counter()
    for input_RK, apply in zip(inputs, applied, strict=True):
        apply(input_RK)
    return time.perf_counter() - began_at


def in_step_order(products: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """Layer by layer; what occurs once comes last."""
    layers = max(count for _, _, count in products)
    repeated = [product for product in products if product[2] == layers]
    for _ in range(layers):
        yield from ((outputs, inputs) for outputs, inputs, _ in repeated)
    yield from ((outputs, inputs) for outputs, inputs, count in products if count != layers)


@torch.inference_mode()
def main(plan: dict[str, Any]) -> None:
    warnings.filterwarnings("ignore", message="torch.quantize_per")  # deprecated without a successor yet
    torch.set_num_threads(plan["threads"])
    torch.backends.quantized.engine = "fbgemm"
    shapes = list(in_step_order(plan["products"]))
    inputs = [torch.randn(plan["rows"], width) for _, width in shapes]
    kernels = available(Path(plan["cache_dir"]), plan["threads"])
    for make in kernels.values():
        require_right(make)
    applied = {name: [make(torch.randn(shape) * 0.02) for shape in shapes] for name, make in kernels.items()}
    print(json.dumps(list(applied)), flush=True)
    for line in sys.stdin:
        print(json.dumps(step_seconds(inputs, applied[line.strip()])), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
