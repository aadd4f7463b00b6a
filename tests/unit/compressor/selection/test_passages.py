"""Passages are told apart by their starts and the embedding model, in bounded work."""

from dataclasses import replace

import numpy as np

from meshkit.embedding.minilm import TooLong, Unavailable
from services.compressor.selection.candidates import Candidate
from services.compressor.selection.passages import passage_scores
from services.compressor.selection.segments import Kind

QUESTION = "who comes after the president?"


class Model:
    """Knows how near each text is to the question by a word in it, and remembers what it read."""

    def __init__(self, near: dict[str, float], error: Exception | None = None) -> None:
        self.near, self.error = near, error
        self.read: list[str] = []

    def embed(self, texts):
        if self.error:
            raise self.error
        self.read += texts
        return [self._vector(text) for text in texts]

    def _vector(self, text):
        cosine = 1.0 if text == QUESTION else next((v for word, v in self.near.items() if word in text), 0.0)
        if cosine > 1:
            return TooLong("300 tokens")
        return np.array([cosine, (1 - cosine**2) ** 0.5], np.float32)


def passages(*texts: str) -> list[Candidate]:
    """Each of two sentences under a heading."""
    found: list[Candidate] = []
    for block, text in enumerate(texts):
        head = len(found)
        for place, (kind, own) in enumerate(
            ((Kind.HEADING, f"# {text}\n"), (Kind.SENTENCE, f"{text} begins. "), (Kind.SENTENCE, "It goes on. "))
        ):
            found.append(
                Candidate(
                    part=0,
                    text=own,
                    token_count=4,
                    kind=kind,
                    block=block,
                    heading=head if place else None,
                    is_pinned=False,
                )
            )
    return found


def scored(found: list[Candidate]) -> dict[int, float]:
    return {number: 1.0 / (1 + number) for number, one in enumerate(found) if one.is_open}


def test_every_sentence_counts_as_near_as_the_start_of_its_passage():
    found = passages("Succession", "Weather")
    near = passage_scores(found, scored(found), QUESTION, Model({"Succession": 0.8, "Weather": 0.1}))
    assert {number: round(value, 2) for number, value in near.items()} == {1: 0.8, 2: 0.8, 4: 0.1, 5: 0.1}


def test_ten_passages_are_read_and_the_others_count_as_the_least_near():
    found = passages(*(f"P{number:02}" for number in range(30)))
    model = Model({"P03": 0.9, "P05": 0.2, "P": 0.5})
    near = passage_scores(found, scored(found), QUESTION, model)
    assert len(model.read) == 11
    assert round(near[3 * 29 + 1], 2) == 0.2


def test_no_more_than_the_start_is_read():
    found = passages("A" * 5000, "B")
    model = Model({})
    passage_scores(found, scored(found), QUESTION, model)
    assert max(map(len, model.read)) <= 140


def test_single_sentences_are_left_to_their_words():
    found = [one for one in passages("A", "B", "C") if one.text != "It goes on. "]
    assert passage_scores(found, scored(found), QUESTION, Model({})) == {}


def test_without_the_model_words_alone_decide():
    found = passages("A", "B")
    assert passage_scores(found, scored(found), QUESTION, Model({}, Unavailable("not installed"))) == {}


def test_a_start_that_is_too_long_for_the_model_counts_as_the_least_near():
    found = passages("Rare", "B", "C")
    near = passage_scores(found, scored(found), QUESTION, Model({"Rare": 2.0, "B": 0.6, "C": 0.3}))
    assert round(near[1], 2) == 0.3


def test_a_message_of_one_block_is_a_turn_and_no_passage():
    turns = [replace(one, part=one.block) for one in passages("A", "B", "C")]
    assert passage_scores(turns, scored(turns), QUESTION, Model({})) == {}
