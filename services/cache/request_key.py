"""What makes two requests the same: a canonical form of the request, its digest, and where a tenant's entry lies.

A request arrives here as plain data: mappings, sequences, strings, numbers, booleans and bytes under the contract's
field names, with unset fields left out and keys of maps as strings. Every field counts, known here or not, so a new
field of the contract can split entries and never merge them. Only what is equal by the contract is made equal:

- fields at a default that the contract itself names (not the model's own defaults, which are not known here);
- spacing and key order in tools' parameter schemas, and spacing in a constraint's schema, whose key order can steer
  the answer. Numbers keep their spelling, since the model reads it;
- stop token ids, which are a set, and logit biases of zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from services.cache.json_schema import canonical_json

DIGEST_BYTES = 32
PARTITION_BYTES = 16
_VERSION = b"mesh.cache.request.1"
_PARTITION = b"mesh.cache.part1"
_OPTION_GROUPS = ("sampling", "stopping", "output", "constraint")
_DEFAULTS: Mapping[tuple[str, str], float] = {
    ("sampling", "n"): 1,
    ("sampling", "presence_penalty"): 0,
    ("sampling", "frequency_penalty"): 0,
    ("stopping", "min_tokens"): 0,
}
_ALL_TOKENS = (0, -1)
"""Two spellings of top_k that the contract calls the same."""

_encoder = msgspec.msgpack.Encoder(order="deterministic")


def request_digest(request: Mapping[str, Any], sharing: Sequence[str] = ()) -> bytes:
    """SHA-256 of the canonical request. `sharing` names who shares the answer within the tenant; empty: everybody."""
    return hashlib.sha256(_framed(_VERSION, _encoder.encode(sharing), _encoder.encode(canonical(request)))).digest()


def partition(tenant: str) -> bytes:
    """What every storage key of the tenant starts with. It names the tenant without spelling its name."""
    return hashlib.blake2b(tenant.encode(), digest_size=PARTITION_BYTES, person=_PARTITION).digest()


def storage_key(tenant: str, digest: bytes) -> bytes:
    """Where the tenant's entry for this digest lies; with a foreign digest, still in the tenant's own part.

    Everything of a tenant, and every prefix of a digest, is a range of keys in each tier.
    """
    return partition(tenant) + digest


def canonical(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request with everything that is equal by the contract made equal."""
    plain = dict(request)
    for group in _OPTION_GROUPS:
        if group in plain:
            plain[group] = _without_defaults(group, _positive_zero(plain[group]))
    if "sampling" in plain:
        plain["sampling"] = _canonical_sampling(plain["sampling"])
    if "stop_token_ids" in plain.get("stopping", {}):
        plain["stopping"]["stop_token_ids"] = sorted(set(plain["stopping"]["stop_token_ids"]))
    if "json_schema" in plain.get("constraint", {}):
        plain["constraint"]["json_schema"] = canonical_json(plain["constraint"]["json_schema"], sort_keys=False)
    if plain.get("prompt", {}).get("tools"):
        plain["prompt"]["tools"] = [_canonical_tool(tool) for tool in plain["prompt"]["tools"]]
    return {name: value for name, value in plain.items() if name not in _OPTION_GROUPS or value}


def is_repeatable(sampling: Mapping[str, Any]) -> bool:
    """Whether the same request gives the same answer again: the likeliest token always, or a seed."""
    return sampling.get("temperature") == 0 or "seed" in sampling


def _without_defaults(group: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if _DEFAULTS.get((group, name)) != value}


def _canonical_sampling(sampling: dict[str, Any]) -> dict[str, Any]:
    changed = dict(sampling)
    if changed.get("top_k") in _ALL_TOKENS:
        changed["top_k"] = _ALL_TOKENS[0]
    bias = {token: value for token, value in changed.pop("logit_bias", {}).items() if value}
    return {**changed, "logit_bias": bias} if bias else changed


def _canonical_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if "parameters_json" not in tool:
        return dict(tool)
    return {**tool, "parameters_json": canonical_json(tool["parameters_json"], sort_keys=True)}


def _positive_zero(value: Any) -> Any:
    """A copy in which -0.0 is 0.0: they are equal, and their bytes are not."""
    if isinstance(value, float):
        return value + 0.0
    if isinstance(value, Mapping):
        return {name: _positive_zero(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_positive_zero(item) for item in value]
    return value


def _framed(*parts: bytes) -> bytes:
    """Lengths first, so that no two lists of parts give the same bytes."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
