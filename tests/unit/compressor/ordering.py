"""Orders, pipelines and counters that the frame's tests share."""

from collections.abc import Mapping, Sequence

from meshkit.testing.clock import FakeClock
from services.compressor.app import lossless_stages
from services.compressor.choice import Chooser
from services.compressor.offload import Offload
from services.compressor.order import Order
from services.compressor.pipeline import Pipeline
from services.compressor.prompt_text import Part
from services.compressor.stages.stage import Quality
from tests.support.selectors import SentenceOverlap

FILLER = "The weather in the valley was mild and rather dull for weeks. "
FACT = "The old lighthouse of Karsk was built in 1887 by Ivan Petrov. "
DOCUMENT = FILLER * 6 + FACT + "Boats came and went without anybody taking notice. " * 6
QUESTION = "Who built the lighthouse of Karsk?"


class CharacterCounter:
    """A reader to whom each character is a token."""

    async def count(self, texts: Sequence[str]) -> int:
        return sum(len(text) for text in texts)


class Certain:
    """A forecast that always says the same."""

    def __init__(self, score: float) -> None:
        self.quality = Quality(score=score, low=score, high=score)

    def predict(self, features: Mapping[str, float]) -> Quality:
        return self.quality


def order(*parts: tuple[str, str], **changes) -> Order:
    fields = {"is_selective": True, **changes}
    return Order(parts=tuple(Part(role=role, text=text) for role, text in parts), **fields)


def pipeline(
    selector=None, *, summaries=None, score: float = 0.95, micro_usd_per_s: float = 0.0, clock=None
) -> Pipeline:
    stages = lossless_stages()
    return Pipeline(
        stages,
        offload=Offload(least_chars=10**9, concurrency=1),
        clock=clock or FakeClock(),
        selector=selector or SentenceOverlap(),
        summaries=summaries,
        chooser=Chooser(
            {stage.name: stage.quality for stage in stages}, forecast=Certain(score), micro_usd_per_s=micro_usd_per_s
        ),
    )
