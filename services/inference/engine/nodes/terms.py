"""What all nodes must agree on, from the options that each was started with, and the first thing on which two don't."""

from __future__ import annotations

from importlib import metadata

import msgspec

from services.inference.engine.nodes.messages import Terms
from services.inference.engine.options import EngineOptions

_ADVICE = {
    "node_rank": "give each host another nodes.rank, from 1 up",
    "version": "install the same release on all hosts",
    "torch": "install the same torch on all hosts",
    "weights": "name the same model, at the same revision, on all hosts (model.source, engine.dtype)",
    "nodes": "set the same nodes.count on all hosts",
    "ranks": "set the same engine.tensor_parallel_size on all hosts",
}
_SETTING = "set the same engine.{} on all hosts"


def terms_of(options: EngineOptions) -> Terms:
    return Terms(
        node_rank=options.node_rank,
        version=_version("inference-mesh"),
        torch=_version("torch"),
        weights=options.revision,
        nodes=options.nodes,
        ranks=options.tensor_parallel_size,
        device=options.device,
        dtype=options.dtype,
        quantization=options.quantization,
        kv_tokens=options.kv_tokens,
        max_sequences=options.max_sequences,
    )


def disagreement(ours: Terms, theirs: Terms) -> str:
    """The first term that differs, with both values and what to do; empty if the two can work together."""
    if not 0 < theirs.node_rank < ours.nodes:
        return f"it calls itself node {theirs.node_rank} of {ours.nodes}; {_ADVICE['node_rank']}"
    for name in Terms.__struct_fields__:
        here, there = getattr(ours, name), getattr(theirs, name)
        if name != "node_rank" and here != there:
            advice = _ADVICE.get(name, _SETTING.format(name))
            return f"its {name} is {_shown(there)}, that of node 0 is {_shown(here)}; {advice}"
    return ""


def _shown(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
