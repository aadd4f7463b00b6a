"""What the sequences of a step draw from: a row's excerpt where that is certain to give the same token, else the row.

Greedy rows are one look-up, sampled ones one batch; the result never depends on which rows come together. A row that
fails gives an exception in its place.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np

from services.inference.engine import candidates, sampler
from services.inference.engine.bending import bends, bent
from services.inference.engine.candidates import Candidates
from services.inference.engine.choice import UNCERTAIN, choose
from services.inference.engine.messages import TokenLogprob
from services.inference.engine.rows import Rows
from services.inference.engine.sampler import Draw, SamplingFailed
from services.inference.engine.sequence import Sequence

Wish = tuple[int, Sequence]  # a row, and the sequence whose next token it gives
Drawn = dict[int, Draw | Exception]  # by row


def draw_all(rows: Rows, wishes: Many[Wish]) -> Drawn:
    """The next token of each sequence, or why it has none."""
    best, some, whole = _by_kind(rows, wishes)
    drawn: Drawn = {}
    if best:
        drawn |= _draw_best(rows, best)
    if some:
        drawn |= _draw_apart(rows, some)
    for row, sequence in [*whole, *(wish for wish in some if wish[0] not in drawn)]:
        try:
            drawn[row] = sampler.draw(rows.logits_RV[row], sequence)
        except Exception as error:
            drawn[row] = error
    return drawn


def _by_kind(rows: Rows, wishes: Many[Wish]) -> tuple[list[Wish], list[Wish], list[Wish]]:
    """Rows of which only the likeliest token is told, rows with candidates, and rows that are read whole."""
    best: list[Wish] = []
    some: list[Wish] = []
    whole: list[Wish] = []
    for wish in wishes:
        excerpt = rows.excerpts[wish[0]]
        if excerpt.count == 0:
            whole.append(wish)
        elif excerpt.count == 1 and excerpt.temperature == 0.0:
            best.append(wish)
        else:
            some.append(wish)
    return best, some, whole


def _draw_best(rows: Rows, wishes: Many[Wish]) -> Drawn:
    values_B, ids_B = candidates.likeliest(rows.words_SW, rows.layout, _rows_of(wishes))
    is_number_B = np.isfinite(values_B).tolist()
    return {
        row: Draw(token_id=token_id) if is_number else _not_numbers()
        for (row, _), token_id, is_number in zip(wishes, ids_B.tolist(), is_number_B, strict=True)
    }


def _draw_apart(rows: Rows, wishes: Many[Wish]) -> Drawn:
    """All at once; where that raises, one by one, so that the one that raises is alone with it."""
    try:
        return _draw_some(rows, wishes)
    except Exception as error:
        if len(wishes) == 1:
            return {wishes[0][0]: error}
    drawn: Drawn = {}
    for wish in wishes:
        drawn |= _draw_apart(rows, [wish])
    return drawn


def _draw_some(rows: Rows, wishes: Many[Wish]) -> Drawn:
    """Without the rows whose draw is uncertain."""
    found = candidates.merged(rows.words_SW, rows.layout, _rows_of(wishes))
    drawn: Drawn = {wishes[b][0]: _not_numbers() for b in np.flatnonzero(~found.are_numbers_B).tolist()}
    bent_found = _bent(found, wishes)
    numbers = [sampler.uniform(sequence.seed, sequence.drawn_count) for _, sequence in wishes]
    samplings = [sequence.request.sampling for _, sequence in wishes]
    places_B = choose(bent_found, samplings, np.array(numbers))
    for b, ((row, sequence), place) in enumerate(zip(wishes, places_B.tolist(), strict=True)):
        if place != UNCERTAIN and row not in drawn:
            drawn[row] = _with_logprobs(int(bent_found.ids_BK[b, place]), found, b, sequence)
    return drawn


def _bent(found: Candidates, wishes: Many[Wish]) -> Candidates:
    """With penalties and the like, which here only lower: what stays above the bound is in order and complete."""
    concerned = [b for b, (_, sequence) in enumerate(wishes) if bends(sequence)]
    if not concerned:
        return found
    values_BK, ids_BK, counts_B = found.values_BK.copy(), found.ids_BK.copy(), found.counts_B.copy()
    for b in concerned:
        values_K = bent(found.values_BK[b].astype(np.float32), found.ids_BK[b], wishes[b][1]).astype(np.float64)
        order_K = np.lexsort((found.ids_BK[b], -values_K))
        values_BK[b], ids_BK[b] = values_K[order_K], found.ids_BK[b][order_K]
        counts_B[b] = int((values_K > found.bounds_B[b]).sum())
    return Candidates(
        values_BK=values_BK, ids_BK=ids_BK, counts_B=counts_B, bounds_B=found.bounds_B, rests_B=found.rests_B
    )


def _with_logprobs(token_id: int, found: Candidates, b: int, sequence: Sequence) -> Draw:
    """Of the model, before everything else; the excerpt's temperature is 1 where they are asked for."""
    top_count = sequence.request.logprobs
    if top_count is None:
        return Draw(token_id=token_id)
    values_K, ids = found.values_BK[b], found.ids_BK[b].tolist()
    total = values_K[0] + np.log(np.exp(values_K - values_K[0]).sum() + found.rests_B[b])
    logprobs = (values_K - total).tolist()
    top = [
        TokenLogprob(token_id=top_id, logprob=logprob)
        for top_id, logprob in zip(ids[:top_count], logprobs, strict=False)
        if top_id >= 0
    ]
    return Draw(token_id=token_id, logprob=logprobs[ids.index(token_id)], top=top)


def _rows_of(wishes: Many[Wish]) -> candidates.Ints:
    return np.array([row for row, _ in wishes])


def _not_numbers() -> SamplingFailed:
    return SamplingFailed("the model's logits are not numbers")
