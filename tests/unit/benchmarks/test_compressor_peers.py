"""Each peer keeps to its size and keeps what its method values."""

import pytest

from benchmarks.compressor.peers import (
    PEERS,
    Tokens,
    asked,
    bm25_sentences,
    selective_context_sentences,
    selective_context_tokens,
    truncated,
)

PROMPT = asked(
    "Answer.\n\nDocument one. The river is long.\nThe bridge was opened by Ada Lund. It rains.\n\n"
    "Question: who opened it?"
)


def words(text: str) -> list[str]:
    return text.split()


VOCABULARY = sorted(set(words(PROMPT.documents)))
TOKENS = Tokens(count=lambda text: len(words(text)), decode=lambda ids: " ".join(VOCABULARY[one] for one in ids))


def surprised_by(*wanted: str):
    """A model to which only these words are news."""

    def information(text: str) -> list[tuple[int, float]]:
        return [(VOCABULARY.index(one), -5.0 if one in wanted else -0.1) for one in words(text)]

    return information


def test_a_prompt_comes_apart_and_together():
    assert (PROMPT.instruction, PROMPT.question) == ("Answer.", "Question: who opened it?")
    assert PROMPT.around("X") == "Answer.\n\nX\n\nQuestion: who opened it?"


@pytest.mark.parametrize("peer", PEERS.values(), ids=list(PEERS))
@pytest.mark.parametrize("budget", [0, 3, 7, 100])
def test_no_peer_is_over_its_size(peer, budget):
    assert TOKENS.count(peer(PROMPT, budget, TOKENS, surprised_by("bridge"))) <= budget


def test_truncation_keeps_the_head():
    assert truncated(PROMPT, 7, TOKENS, surprised_by()) == "Document one. The river is long."


def test_bm25_keeps_the_sentence_that_shares_words_with_the_question():
    assert bm25_sentences(PROMPT, 7, TOKENS, surprised_by()) == "The bridge was opened by Ada Lund."


def test_selective_context_keeps_what_the_model_did_not_expect():
    assert selective_context_sentences(PROMPT, 4, TOKENS, surprised_by("long.")) == "The river is long."
    assert selective_context_tokens(PROMPT, 2, TOKENS, surprised_by("Ada", "Lund.")) == "Ada Lund."
