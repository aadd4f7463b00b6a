"""The bound: cold evidence serves nothing, the error stays under what is accepted, and wrong hits are learnt from."""

import random

import pytest

from services.cache.semantic.error_bound import Choice, ErrorBound, Pair
from services.cache.semantic.track_record import TrackRecord, upper_share


def a_pair(similarity=0.95, agreeing=3, right=5.0, wrong=0.0, rival=0.7, overlap=0.8):
    return Pair(
        similarity=similarity,
        rival_similarity=rival,
        agreeing_count=agreeing,
        agreeing_share=0.9,
        word_overlap=overlap,
        right_count=right,
        wrong_count=wrong,
    )


class World:
    """Pairs whose chance of being right rises with similarity, more or less steeply per stored question."""

    def __init__(self, seed: int, *, honest_share: float = 1.0) -> None:
        self.random = random.Random(seed)
        self.honest_share = honest_share
        self.steepness = [self.random.uniform(40, 80) for _ in range(50)]
        self.counts = [[0.0, 0.0] for _ in range(50)]
        self.bound = ErrorBound(self.random.random)

    def stream(self, length: int, accepted: float) -> tuple[int, int]:
        """Hits and wrong ones among them; only misses are labelled."""
        hits = wrong = 0
        for _ in range(length):
            number = self.random.randrange(len(self.steepness))
            similarity = self.random.uniform(0.7, 1.0)
            chance = 1 / (1 + 2.718 ** (-self.steepness[number] * (similarity - 0.82)))
            is_right = self.random.random() < chance * self.honest_share
            right, wrong_before = self.counts[number]
            judged = self.bound.judge(a_pair(similarity, right=right, wrong=wrong_before), accepted)
            if judged.choice is Choice.SERVE:
                hits += 1
                wrong += not is_right
            else:
                self.counts[number][not is_right] += 1
                self.bound.learn(judged, is_right)
        return hits, wrong


def test_without_evidence_nothing_is_served():
    bound = ErrorBound(lambda: 0.5)
    for similarity in (0.7, 0.9, 1.0):
        judged = bound.judge(a_pair(similarity), 0.05)
        assert judged.choice is Choice.LEARN
        assert judged.error_bound > 0.05


@pytest.mark.parametrize("accepted", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("seed", range(5))
def test_the_share_of_wrong_hits_stays_within_what_is_accepted(seed, accepted):
    hits, wrong = World(seed).stream(8_000, accepted)
    assert hits > 500
    assert wrong <= accepted * hits + 2 * (accepted * hits) ** 0.5


@pytest.mark.parametrize("seed", range(5))
def test_where_even_the_best_pairs_are_wrong_too_often_nothing_is_served(seed):
    hits, _ = World(seed, honest_share=0.9).stream(4_000, 0.01)
    assert hits == 0


def test_nothing_is_served_to_who_accepts_no_error():
    hits, _ = World(1).stream(4_000, 0.0)
    assert hits == 0


def test_some_of_the_would_be_hits_are_generated_again():
    world = World(3)
    world.stream(4_000, 0.05)
    choices = [world.bound.judge(a_pair(0.99), 0.05).choice for _ in range(2_000)]
    assert 0.01 < choices.count(Choice.SAMPLE) / len(choices) < 0.2
    assert Choice.LEARN not in choices


def test_reported_wrong_hits_end_the_serving():
    world = World(4)
    world.stream(4_000, 0.02)
    judged = world.bound.judge(a_pair(0.99), 0.02)
    assert judged.choice is not Choice.LEARN
    for _ in range(100):
        world.bound.learn(judged, is_right=False)
    assert world.bound.judge(a_pair(0.99), 0.02).choice is Choice.LEARN


def test_a_change_of_the_world_is_noticed_through_the_samples():
    world = World(5)
    world.stream(6_000, 0.02)
    world.honest_share = 0.5
    world.stream(4_000, 0.02)
    hits, _ = world.stream(2_000, 0.02)
    assert hits < 20


def test_a_better_score_never_has_the_higher_bound():
    record = TrackRecord(deviations=1.645, fading=0.9998)
    chooser = random.Random(1)
    for _ in range(3_000):
        score = chooser.uniform(-1, 8)
        record.saw(score)
        record.label(score, chooser.random() < 0.5 + score / 17)
    bounds = [record.upper_error(score / 4) for score in range(-4, 40)]
    assert bounds == sorted(bounds, reverse=True)


def test_a_stratum_counts_by_its_look_ups_however_few_of_them_were_labelled():
    record = TrackRecord(deviations=0.0, fading=1.0)
    for score, seen, labelled, wrong in ((5.0, 900, 10, 0), (4.0, 100, 100, 20)):
        for number in range(seen):
            record.saw(score)
            if number < labelled:
                record.label(score, number >= wrong)
    assert record.upper_error(4.0) == pytest.approx(20 / 1000)


def test_look_ups_above_all_labels_are_judged_as_the_best_that_were_labelled():
    record = TrackRecord(deviations=0.0, fading=1.0)
    record.saw(9.0)
    assert record.upper_error(9.0) == 1.0
    record.saw(4.0)
    record.label(4.0, True)
    assert record.upper_error(9.0) == 0.0


@pytest.mark.parametrize(("share", "count", "limit"), [(0.0, 300, 0.009), (0.01, 1000, 0.0166), (0.5, 100, 0.581)])
def test_the_upper_limit_is_wilsons(share, count, limit):
    assert upper_share(share, count, 1.645) == pytest.approx(limit, abs=0.001)
