"""A simple selector: sentences by the words that they share with the question, the best first until the budget."""

import re
from collections.abc import Mapping, Sequence

from services.compressor.selection.port import Piece, Selected, Task

SENTENCE = re.compile(r".+?(?:[.!?](?:\s+|$)|\n+|$)", re.DOTALL)


class NotesNothing:
    """Knows nothing of a choice, its own or an earlier one."""

    def weigh(self, kept: Sequence[str], left_out: Sequence[str], query: str) -> Mapping[str, float]:
        return {}


class SentenceOverlap(NotesNothing):
    """Enough for the frame's tests; whatever is protected stays."""

    name = "sentence_overlap"
    description = "Keeps the sentences that share most words with the question"

    def select(self, task: Task) -> Selected:
        wanted = words(task.query)
        sentences = [
            (index, found.start(), found.end(), found[0])
            for index, part in enumerate(task.parts)
            for found in SENTENCE.finditer(part.text)
        ]
        kept, spent = set(), 0
        if not wanted:
            kept = set(range(len(sentences)))
        ranked = sorted(range(len(sentences)), key=lambda i: (-len(wanted & words(sentences[i][3])), i))
        for i in ranked:
            index, start, end, text = sentences[i]
            is_fixed = task.shields[index].hard.overlaps(start, end) or task.shields[index].marked.overlaps(start, end)
            cost = task.count(text)
            if is_fixed or (wanted & words(text) and spent + cost <= task.budget_tokens):
                kept.add(i)
                spent += cost
        pieces: list[list[Piece]] = [[] for _ in task.parts]
        for i, (index, _, _, text) in enumerate(sentences):
            pieces[index].append(Piece(text=text, is_kept=i in kept))
        return Selected(parts=tuple(tuple(one) for one in pieces))


class KeepsNothing(NotesNothing):
    """Says that nothing at all is worth sending."""

    name = "keeps_nothing"
    description = "Leaves everything out"

    def select(self, task: Task) -> Selected:
        return Selected(parts=tuple((Piece(text=part.text, is_kept=False),) for part in task.parts))


class Rewrites(NotesNothing):
    """Breaks its contract: what it gives is not the text."""

    name = "rewrites"
    description = "Changes words"

    def select(self, task: Task) -> Selected:
        return Selected(parts=tuple((Piece(text=part.text.upper(), is_kept=True),) for part in task.parts))


def words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) > 3}
