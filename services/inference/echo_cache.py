"""The prefix cache that the echo engine pretends to have: names of blocks, kept as the real one would, without content.

So that callers meet hits, tenants that don't share, flushes and events where no model runs.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from itertools import islice

from services.inference.engine.blocks import BLOCK_TOKENS
from services.inference.engine.prefix import PrefixChain, block_hash
from services.inference.engine_port import SequenceSpec
from services.inference.kv_events import KvEventLog
from services.inference.pinned_prefixes import Prefix

MOST_BLOCKS = 4096


class EchoCache:
    """Block hashes, least recently used first; changes go to the log."""

    def __init__(self, log: KvEventLog, most_blocks: int = MOST_BLOCKS) -> None:
        self._log, self._most_blocks = log, most_blocks
        self._kept: OrderedDict[int, None] = OrderedDict()
        self._pins: Counter[int] = Counter()
        self.prompt_token_count = 0
        self.cached_prompt_token_count = 0

    def admit(self, spec: SequenceSpec) -> int:
        """How many of the prompt's first tokens are known; from now on all its whole blocks are."""
        hashes = _hashes(spec.prompt_ids, spec.cache_salt)
        reusable = hashes[: (len(spec.prompt_ids) - 1) // BLOCK_TOKENS] if spec.prompt_logprobs is None else []
        known_count = next((i for i, one in enumerate(reusable) if one not in self._kept), len(reusable))
        self._keep(hashes)
        self.prompt_token_count += len(spec.prompt_ids)
        self.cached_prompt_token_count += known_count * BLOCK_TOKENS
        return known_count * BLOCK_TOKENS

    @property
    def most_tokens(self) -> int:
        return self._most_blocks * BLOCK_TOKENS

    def pin(self, prefix: Prefix) -> bool:
        """False, and nothing is done, where more than half of the cache would be kept."""
        hashes = _hashes(list(prefix.token_ids), prefix.cache_salt)
        if len({*(+self._pins), *hashes}) > self._most_blocks // 2:
            return False
        self._pins.update(hashes)
        return True

    def unpin(self, prefix: Prefix) -> None:
        self._pins.subtract(_hashes(list(prefix.token_ids), prefix.cache_salt))
        self._pins = +self._pins

    def flush(self) -> int:
        """Forget everything; gives how many blocks that were."""
        evicted = tuple(self._kept)
        self._kept.clear()
        self._log.note(stored=(), evicted=evicted)
        return len(evicted)

    def _keep(self, hashes: list[int]) -> None:
        stored = [one for one in hashes if one not in self._kept]
        for one in reversed(hashes):
            self._kept[one] = None
            self._kept.move_to_end(one)
        surplus = max(0, len(self._kept) - self._most_blocks)
        evicted = list(islice((one for one in self._kept if not self._pins[one]), surplus))
        for one in evicted:
            del self._kept[one]
        self._log.note(stored=stored, evicted=())
        self._log.note(stored=(), evicted=evicted)


def _hashes(token_ids: list[int], cache_salt: str) -> list[int]:
    chain = PrefixChain(cache_salt)
    return [block_hash(chain.at(index, token_ids)) for index in range(len(token_ids) // BLOCK_TOKENS)]
