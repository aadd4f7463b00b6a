"""Puts look-up by meaning together: the model, its batches, the partitions and their one thread."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from meshkit.clock import Clock
from meshkit.embedding.minilm import EmbeddingModel, MiniLm
from services.cache.semantic.batching import BatchedEmbedder
from services.cache.semantic.error_bound import ErrorBound
from services.cache.semantic.meaning import MeaningLookup
from services.cache.semantic.partition import Partition, Partitions
from services.cache.semantic.vector_index import UsearchIndex
from services.cache.settings import SemanticSettings


def build_meaning(
    settings: SemanticSettings,
    clock: Clock,
    model: EmbeddingModel | None = None,
    draw: Callable[[], float] = random.random,
) -> MeaningLookup:
    """Nothing is loaded before the first question; what is missing shows then. `draw` is uniform in [0, 1)."""
    embedder = BatchedEmbedder(
        model or MiniLm(),
        window_s=settings.window_s,
        max_batch=settings.max_batch,
        max_waiting=settings.max_waiting,
    )
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nearest")

    def make_partition() -> Partition:
        return Partition(UsearchIndex(thread), ErrorBound(draw), max_entries=settings.max_entries)

    partitions = Partitions(make_partition, max_partitions=settings.max_partitions, budget_bytes=settings.budget_bytes)
    return MeaningLookup(embedder, partitions, settings, clock)
