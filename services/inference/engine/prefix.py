"""What names the content of a block: a chain of digests over whole blocks of tokens, seeded with the tenant's salt.

The digest of a block covers the salt and every token up to the block's last, so equal digests mean equal keys and
values, and two tenants never share a digest. `block_hash` is its short form, which leaves the engine.
"""

from __future__ import annotations

import hashlib
from array import array

from services.inference.engine.blocks import BLOCK_TOKENS

_DIGEST_BYTES = 16
_HASH_BYTES = 8


class PrefixChain:
    """The digests of one sequence's blocks, each computed once, when it is first asked for."""

    def __init__(self, salt: str) -> None:
        self._root = hashlib.blake2b(salt.encode(), digest_size=_DIGEST_BYTES).digest()
        self._digests: list[bytes] = []

    def at(self, index: int, token_ids: list[int]) -> bytes:
        """The digest of block `index` of a sequence with these tokens; they must reach the block's end."""
        digests = self._digests
        while len(digests) <= index:
            begin = len(digests) * BLOCK_TOKENS
            content = array("q", token_ids[begin : begin + BLOCK_TOKENS]).tobytes()
            digests.append(hashlib.blake2b(_parent(digests, self._root) + content, digest_size=_DIGEST_BYTES).digest())
        return digests[index]


def block_hash(digest: bytes) -> int:
    """The first 64 bits of a digest, as KV events carry them."""
    return int.from_bytes(digest[:_HASH_BYTES], "little")


def _parent(digests: list[bytes], root: bytes) -> bytes:
    return digests[-1] if digests else root
