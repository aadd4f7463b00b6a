"""`python -m benchmarks.engine.reference MODEL_DIR THREADS`: plain transformers in float32 as the measure of exactness.

Reads a JSON list of prompts (token ids) on stdin; writes for each the log-probability of every token but the first, and
the likeliest token in its place.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM


@torch.inference_mode()
def main(model_dir: str, threads: int) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print
    torch.set_num_threads(threads)
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, local_files_only=True).eval()
    scores = []
    for piece in json.load(sys.stdin):
        logprobs_TV = torch.log_softmax(model(torch.tensor([piece])).logits[0, :-1], dim=-1)
        drawn_T = logprobs_TV.gather(1, torch.tensor(piece[1:])[:, None])[:, 0]
        scores.append((drawn_T.tolist(), logprobs_TV.argmax(dim=-1).tolist()))
    json.dump(scores, answers)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
