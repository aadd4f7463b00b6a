"""Which rows of logits can be drawn from without being read whole, and what the ranks must tell of them instead.

Decided from the request alone when the step is planned, so that all ranks know it. Logits that penalties, bias or
forbidden stop tokens may raise are read whole, since what each rank finds likeliest says nothing about them; where they
can only fall, the candidates suffice as long as enough of them stay above all others.
"""

from __future__ import annotations

from services.inference.engine.bending import bends, only_lowers
from services.inference.engine.plan import WHOLE_ROW, Excerpt
from services.inference.engine.sequence import Sequence

MOST_CANDIDATES = 256
_FALLING = 62  # so many candidates may fall behind the others before a row is read whole

_BEST = Excerpt(count=1, is_enough=True)


def excerpt_of(sequence: Sequence) -> Excerpt:
    """For the row from which the sequence's next token is drawn."""
    request = sequence.request
    sampling, told = request.sampling, request.logprobs
    if told is not None and told > MOST_CANDIDATES:
        return WHOLE_ROW
    is_bent = bends(sequence)
    if sampling.temperature == 0.0 and told is None and not is_bent:
        return _BEST
    likeliest_count = sampling.top_k if sampling.temperature > 0.0 else 1
    needs_rest = likeliest_count == 0 and sampling.min_p == 0.0
    if likeliest_count > MOST_CANDIDATES or (is_bent and (needs_rest or not only_lowers(sequence))):
        return WHOLE_ROW
    temperature = sampling.temperature if needs_rest else 0.0
    if told is not None:
        if needs_rest and temperature != 1.0:
            return WHOLE_ROW  # it would take the sum at two temperatures
        temperature = 1.0
    if is_bent and likeliest_count > 0:
        count = max(2 * likeliest_count + _FALLING, told or 0)
        return Excerpt(count=min(count, MOST_CANDIDATES), temperature=temperature)
    if likeliest_count == 0:
        return Excerpt(count=MOST_CANDIDATES, temperature=temperature)
    return Excerpt(count=max(likeliest_count, told or 0), temperature=temperature, is_enough=True)
