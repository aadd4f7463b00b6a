"""Every kernel against the same sum written in torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from services.inference.engine.blocks import BLOCK_TOKENS
from services.inference.engine.kernels import build
from services.inference.engine.kernels.build import NoKernels
from services.inference.engine.kernels.native import Chunks, Heads, Kernels
from services.inference.engine.lean.dense import DenseAttention, DenseFeed, DenseProduct
from services.inference.engine.lean.int8 import Int8Attention, Int8Feed, Int8Product
from services.inference.engine.lean.model import LayerCache, Norm, Rotary
from services.inference.engine.lean.runner import step_of
from services.inference.engine.plan import Chunk, StepPlan
from tests.support.engine_process import CACHE_DIR
from tests.support.real import missing

# float32 sums of a few thousand terms in another order; a wrong formula is off by 0.01 and more
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    try:
        return Kernels(build.build(CACHE_DIR), threads=2)
    except NoKernels as reason:
        missing(f"kernels: {reason}")


@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 13, 32, 70])
@pytest.mark.parametrize(("outputs", "inputs"), [(16, 256), (33, 898), (100, 4864), (5, 2)])
def test_int8_product_differs_from_the_exact_one_by_the_weights_rounding_alone(
    kernels: Kernels, rows: int, outputs: int, inputs: int
) -> None:
    torch.manual_seed(rows)
    weight, x, bias = torch.randn(outputs, inputs), torch.randn(rows, inputs), torch.randn(outputs)

    y = kernels.linear_int8(x, kernels.pack_int8(weight), bias, torch.empty(rows, outputs))

    groups = [rounded(part) for part in weight.split(256, dim=1)]
    expected = x.double() @ torch.cat(groups, dim=1).double().T + bias.double()
    # inputs are rounded to 16 bits: 1.5e-5 of the largest, over sqrt(inputs) terms
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=3e-4 * inputs**0.5)
    assert (y - (x @ weight.T + bias)).norm() / (x @ weight.T).norm() < 0.01


def rounded(part: Tensor) -> Tensor:
    """In float32 and by the same steps as the kernel: what lies between two numbers must go the same way."""
    largest = part.abs().amax(dim=1, keepdim=True)
    return (part * (torch.full_like(largest, 127) / largest)).round() * (largest / 127)


def test_int8_product_of_extreme_values_does_not_overflow(kernels: Kernels) -> None:
    weight, x = torch.full((17, 4096), 3.0), torch.full((3, 4096), -1e4)
    y = kernels.linear_int8(x, kernels.pack_int8(weight), None, torch.empty(3, 17))
    torch.testing.assert_close(y, torch.full((3, 17), -3e4 * 4096), rtol=1e-4, atol=0)


def test_int8_product_of_a_row_that_is_not_numbers_is_not_numbers_and_leaves_other_rows_alone(kernels: Kernels) -> None:
    weight, x = torch.randn(20, 64), torch.randn(3, 64)
    x[1, 7] = torch.nan
    y = kernels.linear_int8(x, kernels.pack_int8(weight), None, torch.empty(3, 20))
    assert y[1].isnan().all() and y[0].isfinite().all() and y[2].isfinite().all()


def test_int8_product_writes_only_its_columns_of_a_wider_tensor(kernels: Kernels) -> None:
    wide = torch.full((4, 50), 7.0)
    weight, x = torch.randn(20, 64), torch.randn(4, 64)
    kernels.linear_int8(x, kernels.pack_int8(weight), None, wide[:, 10:30])
    assert (wide[:, :10] == 7).all() and (wide[:, 30:] == 7).all() and (wide[:, 10:30] != 7).all()


def test_norm_adds_the_delta_first_and_keeps_the_sum(kernels: Kernels) -> None:
    x, delta, weight = torch.randn(5, 100), torch.randn(5, 100), torch.randn(100)
    total = x + delta
    expected = total * torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + 1e-6) * weight
    torch.testing.assert_close(kernels.rms_norm(x, weight, 1e-6, delta_TE=delta), expected, **CLOSE)
    torch.testing.assert_close(x, total, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "activation"), [("silu", nn.SiLU()), ("gelu_pytorch_tanh", nn.GELU(approximate="tanh"))]
)
def test_gate_equals_torchs_activation_over_the_whole_range(kernels: Kernels, kind: str, activation: nn.Module) -> None:
    gate = torch.cat([torch.linspace(-200, 200, 4001), torch.tensor([0.0, -88.5, 88.5, 1e30, -1e30])]).repeat(2, 1)
    up = torch.randn_like(gate)
    y = kernels.gate(torch.cat([gate, up], dim=1), kind)
    torch.testing.assert_close(y, activation(gate) * up, **CLOSE)


@pytest.mark.parametrize("heads", [Heads(query=7, key_value=1, dim=64), Heads(query=4, key_value=4, dim=16)])
@pytest.mark.parametrize("window", [0, 5, 24])
def test_attention_over_scattered_blocks_equals_plain_attention(kernels: Kernels, heads: Heads, window: int) -> None:
    """Three chunks in one step: a decoding one, the middle of a prompt, and a whole prompt. Unused slots hold NaN."""
    torch.manual_seed(window)
    spans = [(40, 1), (19, 21), (0, 33)]  # first position, tokens
    paged = Paged(heads, spans)
    row_size = (heads.query + 2 * heads.key_value) * heads.dim
    for (start, _), table in zip(spans, paged.tables, strict=True):
        if start:
            paged.store(kernels, torch.randn(start, row_size), 0, table)
    qkv = torch.randn(sum(count for _, count in spans), row_size)
    begin = 0
    for (start, count), table in zip(spans, paged.tables, strict=True):
        paged.store(kernels, qkv[begin : begin + count], start, table)
        begin += count

    output = kernels.attend(qkv, heads, paged.keys, paged.values, paged.chunks(), window, 0.3)

    torch.testing.assert_close(output, paged.plain(qkv, window, 0.3), **CLOSE)


class Paged:
    """A cache filled through the kernel, and plain attention over what lies in it."""

    def __init__(self, heads: Heads, spans: list[tuple[int, int]]) -> None:
        self.heads, self.spans = heads, spans
        order = torch.randperm(16).tolist()
        self.tables = [[order.pop() for _ in range(-(-(start + count) // BLOCK_TOKENS))] for start, count in spans]
        self.keys = torch.full((16, heads.key_value, heads.dim, BLOCK_TOKENS), torch.nan)
        self.values = torch.full((16, heads.key_value, BLOCK_TOKENS, heads.dim), torch.nan)

    def store(self, kernels: Kernels, qkv: Tensor, start: int, table: list[int]) -> None:
        positions = torch.arange(start, start + qkv.shape[0])
        slots = torch.tensor([table[p // BLOCK_TOKENS] * BLOCK_TOKENS + p % BLOCK_TOKENS for p in positions.tolist()])
        angles = positions.max() + 1
        cosine, sine = torch.ones(int(angles), self.heads.dim), torch.zeros(int(angles), self.heads.dim)
        kernels.rotate_and_store(qkv, self.heads, positions, cosine, sine, None, 0.0, slots, self.keys, self.values)

    def chunks(self) -> Chunks:
        counts = torch.tensor([0, *(count for _, count in self.spans)])
        lengths = torch.tensor([0, *(len(table) for table in self.tables)])
        return Chunks(
            begins=counts.cumsum(0),
            starts=torch.tensor([start for start, _ in self.spans]),
            tables=torch.tensor([block for table in self.tables for block in table], dtype=torch.int32),
            table_begins=lengths.cumsum(0)[:-1].contiguous(),
        )

    def plain(self, qkv: Tensor, window: int, scaling: float) -> Tensor:
        heads, rows, begin = self.heads, [], 0
        for (start, count), table in zip(self.spans, self.tables, strict=True):
            keys = self.keys[table].permute(0, 3, 1, 2).flatten(0, 1)[: start + count]
            values = self.values[table].permute(0, 2, 1, 3).flatten(0, 1)[: start + count]
            query = qkv[begin : begin + count, : heads.query * heads.dim].view(count, heads.query, heads.dim)
            seen_from = torch.arange(start, start + count)[:, None] - torch.arange(start + count)[None, :]
            mask = (seen_from >= 0) & ((seen_from < window) if window else torch.tensor(True))
            rows.append(
                nn.functional.scaled_dot_product_attention(
                    query.transpose(0, 1)[None], keys.transpose(0, 1)[None], values.transpose(0, 1)[None],
                    attn_mask=mask, scale=scaling, enable_gqa=True,
                )[0].transpose(0, 1).flatten(1)
            )  # fmt: skip
            begin += count
        return torch.cat(rows)


def test_rotation_and_head_norms_equal_the_written_formula_and_go_to_the_cache(kernels: Kernels) -> None:
    torch.manual_seed(1)
    heads, count = Heads(query=3, key_value=1, dim=32), 5
    qkv, norms = torch.randn(count, 5 * 32), (torch.randn(32), torch.randn(32))
    angles = torch.randn(50, 16).repeat(1, 2)
    positions, slots = torch.tensor([3, 4, 5, 49, 0]), torch.tensor([17, 2, 3, 40, 41])
    keys, values = torch.zeros(3, 1, 32, BLOCK_TOKENS), torch.zeros(3, 1, BLOCK_TOKENS, 32)
    expected = qkv.view(count, 5, 32).clone()
    for head, norm in ((0, 0), (1, 0), (2, 0), (3, 1)):
        x = expected[:, head]
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * norms[norm]
        turned = torch.cat([-x[:, 16:], x[:, :16]], dim=-1)
        expected[:, head] = x * angles.cos()[positions] + turned * angles.sin()[positions]

    kernels.rotate_and_store(qkv, heads, positions, angles.cos(), angles.sin(), norms, 1e-6, slots, keys, values)

    torch.testing.assert_close(qkv.view(count, 5, 32), expected, **CLOSE)
    torch.testing.assert_close(keys[slots // 16, 0, :, slots % 16], expected[:, 3], **CLOSE)
    torch.testing.assert_close(values[slots // 16, 0, slots % 16], expected[:, 4], **CLOSE)


def test_missing_compiler_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoKernels, match="install g\\+\\+"):
        build.build(tmp_path)


def test_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "kernels").write_text("a file where a folder should be")
    with pytest.raises(NoKernels, match="could not be written"):
        build.build(tmp_path)


@pytest.mark.parametrize("heads", [Heads(query=4, key_value=2, dim=16), Heads(query=0, key_value=0, dim=16)])
@pytest.mark.parametrize("has_head_norms", [True, False])
def test_attention_half_in_one_call_equals_its_kernels_one_by_one(
    kernels: Kernels, heads: Heads, has_head_norms: bool
) -> None:
    torch.manual_seed(7)
    hidden, tokens = 96, 5
    width = (heads.query + 2 * heads.key_value) * heads.dim
    qkv, output = torch.randn(width, hidden), torch.randn(hidden, heads.query * heads.dim)
    dense = DenseAttention(
        kernels=kernels,
        norm=Norm(weight_E=torch.rand(hidden), epsilon=1e-5),
        heads=heads,
        rotary=Rotary(cosine_PD=torch.rand(40, heads.dim), sine_PD=torch.rand(40, heads.dim)),
        head_norms=(Norm(weight_E=torch.rand(16), epsilon=1e-6),) * 2 if has_head_norms else None,
        window=3,
        scaling=0.25,
        query_key_value=DenseProduct(((qkv, torch.randn(width)),)),
        output=DenseProduct(((output, None),)),
    )
    one_by_one: Any = dense
    if heads.query:
        weights = Int8Product(kernels, kernels.pack_int8(qkv), dense.query_key_value.parts[0][1])
        one_by_one = replace(
            dense, query_key_value=weights, output=Int8Product(kernels, kernels.pack_int8(output), None)
        )
    plan = StepPlan(
        step=0, chunks=[Chunk(sequence_id=1, token_ids=[1] * tokens, start=0, block_ids=[1], logit_count=1)]
    )
    x, delta = torch.randn(tokens, hidden), torch.randn(tokens, hidden)
    results = []
    for half in (Int8Attention(dense), one_by_one):
        stream, cache = x.clone(), LayerCache(2, heads)
        cache.keys.zero_(), cache.values.zero_()
        results.append((half(stream, delta, step_of(plan), cache), stream, cache.keys, cache.values))

    for fused, single in zip(*results, strict=True):
        assert torch.equal(fused, single)


def test_feed_half_in_one_call_equals_its_kernels_one_by_one(kernels: Kernels) -> None:
    torch.manual_seed(8)
    hidden, inner = 96, 160
    gate_up, down = torch.randn(2 * inner, hidden), torch.randn(hidden, inner)
    dense = DenseFeed(
        kernels=kernels,
        norm=Norm(weight_E=torch.rand(hidden), epsilon=1e-5),
        gate_up=DenseProduct(((gate_up[:inner], None), (gate_up[inner:], None))),
        activation="silu",
        down=DenseProduct(((down, None),)),
    )
    one_by_one: Any = replace(
        dense,
        gate_up=Int8Product(kernels, kernels.pack_int8(gate_up), None),
        down=Int8Product(kernels, kernels.pack_int8(down), None),
    )
    x = torch.randn(4, hidden)

    assert torch.equal(Int8Feed(dense)(x.clone(), None), one_by_one(x.clone(), None))
