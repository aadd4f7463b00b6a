"""What the forecast is told: the selector's notes where its one choice left out all that is left out."""

from collections.abc import Mapping, Sequence

from meshkit.testing.clock import FakeClock
from services.compressor.app import lossless_stages
from services.compressor.bounded import BoundedStore
from services.compressor.choice import Chooser
from services.compressor.conversation import Conversations
from services.compressor.offload import Offload
from services.compressor.omission import MARKER
from services.compressor.pipeline import Pipeline
from services.compressor.selection.port import Selected, Task
from services.compressor.sessions import Key, Sessions
from services.compressor.stages.stage import Quality
from tests.support.selectors import SentenceOverlap
from tests.unit.compressor.ordering import DOCUMENT, FACT, FILLER, QUESTION, CharacterCounter, order

NOTES = {"kept_share": 0.3}
WEIGHED = {"kept_share": 0.6}
FIRST = (("tool", DOCUMENT), ("user", QUESTION))
SECOND = (*FIRST, ("assistant", "Ivan."), ("tool", FILLER * 9), ("user", "Was the weather mild?"))


class Noting(SentenceOverlap):
    """Notes something of each choice."""

    def select(self, task: Task) -> Selected:
        return Selected(parts=super().select(task).parts, features=NOTES)

    def weigh(self, kept: Sequence[str], left_out: Sequence[str], query: str) -> Mapping[str, float]:
        assert any(FILLER.strip() in run for run in left_out)
        assert not any(FACT.strip() in run for run in left_out)
        assert query == "Was the weather mild?"
        return WEIGHED


class Listening:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, float]] = []

    def predict(self, features: Mapping[str, float]) -> Quality:
        self.told.append(features)
        return Quality(score=0.9, low=0.8, high=0.95)


def pipeline(forecast: Listening) -> Pipeline:
    return Pipeline(
        lossless_stages(),
        offload=Offload(least_chars=10**9, concurrency=1),
        clock=FakeClock(),
        selector=Noting(),
        chooser=Chooser({}, forecast=forecast),
    )


async def test_the_forecast_gets_the_selectors_notes():
    forecast = Listening()
    outcome = await pipeline(forecast).compress(order(*FIRST, target_ratio=0.3), CharacterCounter())
    assert MARKER in outcome.texts[0]
    assert forecast.told == [NOTES]
    assert outcome.quality == Quality(score=0.9, low=0.8, high=0.95)


async def test_what_earlier_turns_left_out_is_weighed_for_the_question_of_this_turn():
    forecast = Listening()
    store = BoundedStore(max_bytes=1_000_000, ttl_s=60.0, clock=FakeClock())
    conversations = Conversations(pipeline(forecast), Sessions(store))
    key = Key(tenant="a", session_id="s")
    for turn in (FIRST, SECOND):
        outcome = await conversations.compress(order(*turn, target_ratio=0.3), CharacterCounter(), key, remembers=True)
    assert forecast.told[0] == NOTES
    assert forecast.told[1:3] == [WEIGHED, NOTES]
    assert outcome.quality.score == 0.9 * 0.9
