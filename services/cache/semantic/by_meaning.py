"""Who is looked up by meaning: callers who ask for it and tenants whose policy does, within the error that applies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meshkit.together import Together
from services.cache.semantic.equivalence import AnswerText
from services.cache.semantic.meaning import Asked, Fetch, MeaningLookup, Served
from services.cache.semantic.question import question_of
from services.cache.semantic.verdict import Decider, Verdict
from services.cache.settings import SemanticSettings


class ByMeaning:
    """Look-up by meaning as a deployment has it; without `meaning` it says that it is switched off."""

    def __init__(self, meaning: MeaningLookup | None, settings: SemanticSettings) -> None:
        self._meaning = meaning
        self._settings = settings
        self._looking: Together[tuple[bytes, float], Served | Verdict] = Together()

    def is_wanted(self, tenant: str, *, is_asked: bool, is_left_open: bool) -> bool:
        """`is_left_open`: the caller leaves the way of look-up to the tenant's policy."""
        return is_asked or (is_left_open and self._settings.is_always(tenant))

    async def lookup(
        self,
        tenant: str,
        request: Mapping[str, Any],
        sharing: Sequence[str],
        *,
        key: bytes,
        max_error_rate: float | None,
        fetch: Fetch,
    ) -> Served | Verdict:
        """For a request that the exact look-up did not find under `key`. However many ask at once, it is done once."""
        if self._meaning is None:
            return Verdict(decided_by=Decider.UNAVAILABLE, detail="it is switched off")
        question = question_of(tenant, request, sharing)
        if question is None:
            return Verdict(decided_by=Decider.NOT_COMPARABLE)
        meaning, accepted = self._meaning, self._settings.error_rate(tenant, max_error_rate)
        asked = Asked(key=key, question=question, max_error_rate=accepted)
        return await self._looking.ask((key, accepted), lambda: meaning.lookup(asked, fetch))

    def offer(self, key: bytes, said: Callable[[], AnswerText | None]) -> None:
        """An answer was committed under a key."""
        if self._meaning is not None:
            self._meaning.offer(key, said)

    def blame(self, key: bytes) -> bool:
        """The hit by meaning that the look-up with this key gave was wrong; False where no such hit is known."""
        return self._meaning is not None and self._meaning.blame(key)
