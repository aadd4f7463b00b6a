"""Text to the ids that the model reads, and back.

Which form a prompt takes: token ids as they are; `text` as one user turn where the model has a chat template, else (or
with `raw`) as it is, behind the model's beginning-of-text token; turns through the template, or, for a model without
one, as `role: content` lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from services.inference.byte_tokenizer import END_TOKEN_ID, byte_tokenizer
from services.inference.chat_template import ChatTemplate, join_turns
from services.inference.model_files import read_model_files
from services.inference.requests import Prompt, SamplingWish, Turn

CHUNK_CHARACTERS = 4096
CHUNKS_AT_ONCE = 4
"""They are counted in parallel, without the places of their tokens."""
CUT_ALLOWANCE_TOKENS = 16


class TextModel:
    """A tokenizer with a model's habits."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | None = None,
        bos_token_id: int | None = None,
        eos_token_ids: tuple[int, ...] = (),
        sampling_defaults: SamplingWish | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._bos_token_id = bos_token_id
        self.eos_token_ids = eos_token_ids
        self.sampling_defaults = sampling_defaults or SamplingWish()

    @property
    def template_digest(self) -> str:
        """Empty where the model has no template."""
        return self._template.digest if self._template else ""

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the tokenizer knows; the model may have room for more."""
        return self._tokenizer.get_vocab_size()

    def encode(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt that has exactly one form. Slow for long text: call it off the event loop."""
        if prompt.token_ids is not None:
            return list(prompt.token_ids)
        turns = prompt.turns or ()
        if prompt.text is not None:
            if prompt.is_raw or self._template is None:
                return self._encode_plain(prompt.text)
            turns = (Turn(role="user", content=prompt.text),)
        if self._template is None:
            return self._encode_plain(join_turns(turns))
        return self._ids(self._template.render(turns), add_special_tokens=False)

    def token_floor(self, texts: Sequence[str], enough: int) -> int:
        """A lower bound of the tokens of these texts, counted no further than `enough`; much cheaper than `encode`.

        A cut between two chunks may split a token; the allowance for it keeps the bound true.
        """
        floor = 0
        for text in texts:
            chunks = [text[start : start + CHUNK_CHARACTERS] for start in range(0, len(text), CHUNK_CHARACTERS)]
            for first in range(0, len(chunks), CHUNKS_AT_ONCE):
                batch = chunks[first : first + CHUNKS_AT_ONCE]
                counted = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
                floor += sum(max(0, len(chunk) - CUT_ALLOWANCE_TOKENS) for chunk in counted)
                if floor >= enough:
                    return floor
        return floor

    def decode(self, ids: Sequence[int]) -> str:
        """Text of these ids, without tokens such as end-of-text."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def decode_all(self, ids: Sequence[int]) -> str:
        """Text of these ids, special tokens included."""
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def _ids(self, text: str, *, add_special_tokens: bool) -> list[int]:
        # Only the batch form can leave out offsets, which nobody reads: 40 % less time for a long prompt.
        ids: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
        return ids

    def _encode_plain(self, text: str) -> list[int]:
        ids = self._ids(text, add_special_tokens=True)
        if self._bos_token_id is not None and ids[:1] != [self._bos_token_id]:
            ids.insert(0, self._bos_token_id)
        return ids


def load_text_model(directory: Path) -> TextModel:
    """Read a model directory; raises UnusableModel."""
    files = read_model_files(directory)
    bos = files.special_tokens.get("bos_token", "") if files.adds_bos else ""
    return TextModel(
        files.tokenizer,
        template=ChatTemplate(files.template_source, files.special_tokens) if files.template_source else None,
        bos_token_id=files.tokenizer.token_to_id(bos) if bos else None,
        eos_token_ids=files.eos_token_ids,
        sampling_defaults=files.sampling_defaults,
    )


def byte_text_model() -> TextModel:
    """Text as bytes, for the echo engine."""
    return TextModel(byte_tokenizer(), eos_token_ids=(END_TOKEN_ID,))
