"""A tokenizer of 256 bytes and an end, for the echo engine and for tests: no model directory is needed."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END_TOKEN = "<end>"
END_TOKEN_ID = 256


def byte_tokenizer() -> Tokenizer:
    """One token a byte of UTF-8, ids 0..255, and END_TOKEN as END_TOKEN_ID."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_TOKEN, special=True)])
    return tokenizer
