"""Rules of services.inference.detokenizer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from services.inference.byte_tokenizer import byte_tokenizer
from services.inference.detokenizer import INCOMPLETE, MAX_PENDING_TOKENS, Detokenizer

TEXTS = st.text(
    alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("你好世界 👩‍👩‍👧‍👦🏴‍☠️éàß\n\t")), max_size=60
)
CORPUS = ["the quick brown fox", "你好世界", "👩‍👩‍👧‍👦 family", "über straße", "  spaces   and\ttabs\n"]


def merged_byte_level() -> Tokenizer:
    """Byte-level BPE with merges across character borders, as GPT-2 and Qwen have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS * 3, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet))
    return tokenizer


def byte_fallback(*, strips_leading_space: bool) -> Tokenizer:
    """SentencePiece-like: words with a marker for spaces, unknown characters as bytes; as Llama and Gemma have."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    for letter in "▁abcdefghijklmnopqrstuvwxyz":
        vocab[letter] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if strips_leading_space else "never")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + [decoders.Strip(" ", 1, 0)] * strips_leading_space)
    return tokenizer


TOKENIZERS = {
    "bytes": byte_tokenizer(),
    "merged": merged_byte_level(),
    "fallback": byte_fallback(strips_leading_space=False),
    "fallback_stripped": byte_fallback(strips_leading_space=True),
}


def stream(tokenizer: Tokenizer, ids: list[int], prompt_ids: list[int] | None = None) -> list[str]:
    detokenizer = Detokenizer(tokenizer.decode, prompt_ids or [])
    return [*(detokenizer.add(token_id) for token_id in ids), detokenizer.finish()]


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_streamed_text_is_the_text_and_never_holds_half_a_character(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text).ids
    parts = stream(tokenizer, ids)
    assert "".join(parts) == tokenizer.decode(ids)
    if INCOMPLETE not in text:
        assert not any(INCOMPLETE in part for part in parts)


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 255), max_size=80))
def test_any_bytes_at_all_stream_to_what_they_decode_to(ids: list[int]) -> None:
    tokenizer = TOKENIZERS["bytes"]
    without_bounds = "".join(stream(tokenizer, ids))
    if len(ids) < MAX_PENDING_TOKENS:
        assert without_bounds == tokenizer.decode(ids)
    assert without_bounds.replace(INCOMPLETE, "") == tokenizer.decode(ids).replace(INCOMPLETE, "")


@settings(max_examples=50, deadline=None)
@given(prompt=TEXTS, text=TEXTS)
def test_prompt_before_the_answer_does_not_change_byte_level_text(prompt: str, text: str) -> None:
    tokenizer = TOKENIZERS["bytes"]
    ids = tokenizer.encode(text).ids
    parts = stream(tokenizer, ids, tokenizer.encode(prompt).ids)
    assert "".join(parts) == tokenizer.decode(ids)


def test_leading_space_of_an_answer_is_kept_where_the_decoder_drops_it_at_the_head_of_a_text() -> None:
    tokenizer = TOKENIZERS["fallback_stripped"]
    ids = tokenizer.encode("abc def").ids
    assert "".join(stream(tokenizer, ids[-4:], ids[:-4])) == " def"


def test_emoji_comes_out_with_its_last_byte() -> None:
    tokenizer = TOKENIZERS["bytes"]
    assert stream(tokenizer, tokenizer.encode("a👍b").ids) == ["a", "", "", "", "👍", "b", ""]


def test_endless_broken_bytes_are_given_out_within_the_bound() -> None:
    tokenizer = TOKENIZERS["bytes"]
    lone = tokenizer.encode("é").ids[1]
    parts = stream(tokenizer, [lone] * (3 * MAX_PENDING_TOKENS))
    assert max(len(part) for part in parts) <= MAX_PENDING_TOKENS
    assert sum(len(part) for part in parts) == 3 * MAX_PENDING_TOKENS


def test_tokens_that_show_nothing_do_not_grow_the_window() -> None:
    seen: list[int] = []

    def decode(ids: list[int]) -> str:
        seen.append(len(ids))
        return ""

    detokenizer = Detokenizer(decode, [1, 2, 3])  # type: ignore[arg-type]
    for _ in range(200):
        assert detokenizer.add(0) == ""
    assert max(seen) <= MAX_PENDING_TOKENS + 5
