"""A format that readers answer worse from goes out only where the caller's floor lets it; safer ones still do."""

import json

import pytest

from meshkit.testing.clock import FakeClock
from services.compressor.app import chooser, lossless_stages
from services.compressor.choice import Chooser
from services.compressor.offload import Offload
from services.compressor.omission import MARKER
from services.compressor.pipeline import Pipeline
from services.compressor.quality.evidence import packaged_evidence
from services.compressor.stages.stage import Quality
from tests.support.selectors import SentenceOverlap
from tests.unit.compressor.ordering import DOCUMENT, QUESTION, Certain, CharacterCounter, order

RECORDS = json.dumps([{"id": i, "name": f"name {i}"} for i in range(20)], indent=2)
LOG = "".join(f"2024-05-01 10:00:{i:02d} INFO request {100 + i} took {i} ms\n" for i in range(20))
RISKY, SAFE = Quality(score=0.5, low=0.4, high=0.6), Quality(score=0.98, low=0.9, high=1.0)


def pipeline(least_format_quality: float = 0.0, **qualities: Quality) -> Pipeline:
    return Pipeline(
        lossless_stages(),
        offload=Offload(least_chars=10**9, concurrency=1),
        clock=FakeClock(),
        selector=SentenceOverlap(),
        chooser=Chooser(
            {"json_minify": SAFE, "record_table": SAFE, "log_rows": SAFE, **qualities},
            forecast=Certain(0.95),
            least_format_quality=least_format_quality,
        ),
    )


async def compressed(*parts: tuple[str, str], log_rows: Quality = SAFE, least_format_quality: float = 0.0, **changes):
    own = pipeline(least_format_quality, log_template=RISKY, log_rows=log_rows)
    return await own.compress(order(*parts, **changes), CharacterCounter())


async def test_only_the_format_that_misses_the_floor_is_undone_and_a_safer_one_takes_its_place():
    outcome = await compressed(("tool", RECORDS), ("tool", LOG), is_selective=False, min_quality=0.9)
    assert outcome.texts[0].startswith("table[") and "rows: time|template" in outcome.texts[1]
    assert outcome.rewritten_by == {"json_minify", "record_table", "log_rows"}
    assert outcome.quality.score == pytest.approx(0.98**3)


async def test_the_ledger_tells_that_it_was_undone():
    outcome = await compressed(("tool", RECORDS), ("tool", LOG), is_selective=False, min_quality=0.9)
    undone, kept = (entry for entry in outcome.stages if entry.stage in ("log_template", "log_rows"))
    assert undone.segment_count == 0 and undone.tokens_before == undone.tokens_after == kept.tokens_before
    assert kept.segment_count == 1 and kept.tokens_after == outcome.compressed_tokens


async def test_without_any_floor_the_shortest_format_goes_out():
    outcome = await compressed(("tool", LOG), is_selective=False)
    assert "rows: template|end of time" in outcome.texts[0] and outcome.quality.score == 0.5


async def test_unasked_a_format_needs_the_deployments_least_quality():
    outcome = await compressed(("tool", LOG), is_selective=False, least_format_quality=0.6)
    assert outcome.rewritten_by == {"log_rows"} and outcome.quality == SAFE


async def test_a_caller_may_allow_what_the_deployment_does_not_use_unasked():
    outcome = await compressed(("tool", LOG), is_selective=False, least_format_quality=0.6, min_quality=0.0)
    assert outcome.rewritten_by == {"log_template"} and outcome.quality == RISKY


async def test_where_nothing_else_is_shorter_the_floor_is_the_reason_for_the_original():
    outcome = await compressed(("tool", LOG), is_selective=False, log_rows=RISKY, min_quality=0.9)
    assert outcome.texts == (LOG,)
    assert outcome.reason_original_kept == "predicted quality 0.500 is below the floor 0.900"


async def test_a_format_that_has_nothing_to_do_is_no_reason():
    outcome = await compressed(("user", "Short."), is_selective=False, min_quality=0.9)
    assert outcome.reason_original_kept == "no stage makes it shorter"


async def test_selection_goes_on_from_what_meets_the_floor():
    outcome = await compressed(("tool", LOG), ("tool", DOCUMENT), ("user", QUESTION), target_ratio=0.3, min_quality=0.9)
    assert MARKER in outcome.texts[1] and outcome.rewritten_by == {"log_rows"}
    assert outcome.quality.score == pytest.approx(0.98 * 0.95)


async def test_the_packaged_score_of_a_format_is_what_was_measured():
    stages = lossless_stages()
    measured = packaged_evidence().lossless
    assert set(measured) <= {stage.name for stage in stages}
    own = Pipeline(
        stages, offload=Offload(least_chars=10**9, concurrency=1), clock=FakeClock(), chooser=chooser(stages)
    )
    outcome = await own.compress(order(("tool", LOG), is_selective=False), CharacterCounter())
    assert outcome.quality == measured["log_template"]
