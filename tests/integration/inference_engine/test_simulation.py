"""100,000 random steps of the scheduler, with every rule checked after each (see `simulation`)."""

from __future__ import annotations

import pytest

from tests.integration.inference_engine.simulation import World

STEPS_TO_EMPTY = 2_000


@pytest.mark.parametrize(
    ("steps", "limits"),
    [
        (70_000, {}),
        (20_000, {"output_reserve_tokens": 4}),
        (10_000, {"batching_window_s": 0.05, "reuses_prefixes": False}),
    ],
    ids=["whole-reservation", "part-reservation", "window-without-reuse"],
)
def test_random_steps_leak_nothing_starve_nobody_and_end_every_sequence_once(
    steps: int, limits: dict[str, float]
) -> None:
    world = World(seed=2026, **limits)
    for _ in range(steps):
        world.step()

    for sequence_id in list(world.open)[1::2]:
        world.abort(sequence_id)
    for _ in range(STEPS_TO_EMPTY):
        world.run()

    assert not world.open and world.ends.count() == world.accepted_count > steps / 20
    assert world.pool.used_count == world.pool.kept_count
    load = world.scheduler.load()
    assert (load.running_count, load.waiting_count, load.prefill_backlog_tokens) == (0, 0, 0)
    assert load.preemption_count > 100
    assert min(map(len, (world.ends.finished, world.ends.aborted, world.ends.failed, world.ends.expired))) > 10
    assert (load.cached_prompt_token_count > 0) is world.limits.reuses_prefixes
