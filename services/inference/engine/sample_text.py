"""The text on which a quantised model's loss is measured at start: plain prose, numbers, code and other languages.

Written for this project. Long enough for a few hundred tokens, short enough for a second of work.
"""

from __future__ import annotations

from pathlib import Path

SAMPLE = """The lighthouse keeper wrote in his book every evening. On the 14th of March 1871 he noted a falling glass,
wind from the north-west, and two ships on the horizon; by midnight the storm had come, and only one of them was seen
again. He kept the lamp burning until dawn, as he had done for twenty-six years, and went down to the beach with a rope.

def mean(values: list[float]) -> float:
    if not values:
        raise ValueError("no values")
    return sum(values) / len(values)

{"order": 10482, "items": [{"sku": "A-17", "count": 3, "price": 12.50}], "paid": true}

To make bread, mix 500 g of flour with 350 ml of water, 10 g of salt and a little yeast. Let it rest for eight hours,
fold it twice, shape it, and bake it at 230 degrees for forty minutes. The crust should sound hollow when you
knock on it.
Die Brücke wurde im Jahr 1904 gebaut und verbindet seitdem beide Ufer. La réunion commencera à neuf heures précises.
"""
_MOST_TOKENS = 256


def sample_ids(model_dir: Path) -> list[int]:
    """The sample in the model's own tokens; empty where it has no tokenizer file."""
    from tokenizers import Tokenizer

    path = model_dir / "tokenizer.json"
    if not path.exists():
        return []
    ids: list[int] = Tokenizer.from_file(str(path)).encode(SAMPLE).ids
    return ids[:_MOST_TOKENS]
