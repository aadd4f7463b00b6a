"""A checkpoint of a few hundred kilobytes with random weights and a real tokenizer, for tests that need an engine.

The text it draws is noise; everything else (config, safetensors, byte-level BPE, chat template) is as in a model from
the hub, so loading, sharding, sampling and streaming go the same way.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

Family = Literal["qwen2", "qwen3", "llama", "mistral", "gemma3"]

CONTEXT_TOKENS = 512
_BOS, _EOS, _PAD = "<|bos|>", "<|end|>", "<|endoftext|>"
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_CORPUS = (
    "The quick brown fox jumps over the lazy dog. ",
    "A mesh of small services streams tokens to the people who asked for them. ",
    "Count from one to ten: one two three four five six seven eight nine ten. ",
    '{"name": "value", "items": [1, 2, 3]} <tag attribute="x">text</tag>\n',
    "Äpfel, naïve café, 你好, 🙂\n",
)


def make_tiny_model(
    directory: Path | str, family: Family = "qwen2", seed: int = 0, *, chat_template: bool = True
) -> Path:
    """Write a complete tiny checkpoint into `directory` (made if absent) and return it. Same arguments, same bytes."""
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(chat_template=chat_template)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(family, tokenizer)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    _write_generation_config(path, tokenizer)
    return path


def _tokenizer(*, chat_template: bool) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[_PAD, _BOS, _EOS, *_ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=_BOS,
        eos_token=_EOS,
        pad_token=_PAD,
        additional_special_tokens=list(_ROLES),
        model_max_length=CONTEXT_TOKENS,
    )
    if chat_template:
        tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def _model(family: Family, tokenizer: PreTrainedTokenizerFast) -> Any:
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.2,  # wide enough that greedy choices differ clearly from step to step
    }
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**shape, tie_word_embeddings=True))
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=False))
    if family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=16, tie_word_embeddings=True))
    if family == "mistral":
        return MistralForCausalLM(MistralConfig(**shape, sliding_window=24, tie_word_embeddings=False))
    gemma_shape: dict[str, Any] = {**shape, "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16}
    layers = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    sliding: dict[str, Any] = {"sliding_window": 24, "layer_types": layers}
    return Gemma3ForCausalLM(Gemma3TextConfig(**gemma_shape, **sliding, tie_word_embeddings=False))


def _write_generation_config(path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    document = {**ids, "pad_token_id": tokenizer.pad_token_id}
    (path / "generation_config.json").write_text(json.dumps(document, indent=2) + "\n")
