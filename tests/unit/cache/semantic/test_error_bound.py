"""The bound: cold evidence serves nothing, the error stays under what is accepted, and wrong hits are learnt from."""

import random

import numpy as np
import pytest

from services.cache.semantic.calibration import calibrated, upper_share
from services.cache.semantic.error_bound import Choice, ErrorBound, Pair
from services.cache.semantic.evidence import MOST_LABELS, Evidence, Ring


def a_pair(similarity=0.95, right=5, wrong=0):
    return Pair(
        similarity=similarity,
        rival_similarity=0.7,
        agreeing_count=3,
        agreeing_share=0.5,
        near_share=0.9,
        word_overlap=0.8,
        right_count=right,
        wrong_count=wrong,
    )


class World:
    """Pairs whose chance of being right rises with similarity, more or less steeply per stored question."""

    def __init__(self, seed: int, *, honest_share: float = 1.0) -> None:
        self.random = random.Random(seed)
        self.honest_share = honest_share
        self.steepness = [self.random.uniform(40, 80) for _ in range(50)]
        self.counts = [[0, 0] for _ in range(50)]
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
                if self.bound.is_due:
                    self.bound.adopt(self.bound.begin_update()())
        return hits, wrong


def test_without_evidence_nothing_is_served():
    bound = ErrorBound(lambda: 0.5)
    for similarity in (0.7, 0.9, 1.0):
        judged = bound.judge(a_pair(similarity), 0.05)
        assert judged.choice is Choice.LEARN
        assert judged.error_bound > 0.05


@pytest.mark.parametrize("accepted", [0.01, 0.05])
@pytest.mark.parametrize("seed", range(2))
def test_the_share_of_wrong_hits_stays_within_what_is_accepted(seed, accepted):
    hits, wrong = World(seed).stream(5_000, accepted)
    assert hits > 300
    assert wrong <= accepted * hits + 2 * (accepted * hits) ** 0.5


@pytest.mark.parametrize("seed", range(2))
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
    world.bound.adopt(world.bound.begin_update()())
    assert world.bound.judge(a_pair(0.99), 0.02).choice is Choice.LEARN


def test_a_change_of_the_world_is_noticed_through_the_samples():
    world = World(5)
    world.stream(6_000, 0.02)
    world.honest_share = 0.5
    world.stream(4_000, 0.02)
    hits, _ = world.stream(2_000, 0.02)
    assert hits < 20


def rows(*groups, kind=1.0):
    """Rows of one feature, the constant and the kind, and their labels: (feature, count, wrong ones)."""
    found = [((1.0, value, kind), number >= wrong) for value, count, wrong in groups for number in range(count)]
    return np.array([row for row, _ in found]), np.array([float(label) for _, label in found])


def test_a_better_score_never_has_the_higher_bound():
    labelled, labels = rows((0.0, 100, 50), (1.0, 100, 30), (2.0, 100, 10), (3.0, 200, 1))
    for limits in calibrated(labelled, labelled, labels).upper_errors:
        assert list(limits) == sorted(limits, reverse=True)


def test_a_stratum_counts_by_its_look_ups_however_few_of_them_were_labelled():
    """As many labels on both sides, but nine in ten look-ups on the side that is hardly ever wrong."""
    labelled, labels = rows((0.0, 500, 250), (5.0, 500, 0))
    seen, _ = rows((0.0, 100, 0), (5.0, 900, 0))
    rule = calibrated(seen, labelled, labels)
    assert rule.upper_error((1.0, 0.0, 1.0)) == pytest.approx(0.05, abs=0.02)
    assert rule.upper_error((1.0, 5.0, 1.0)) < 0.02


def test_confirmed_answers_prove_nothing_of_unconfirmed_ones():
    labelled, labels = rows((0.0, 500, 250), (5.0, 500, 0))
    rule = calibrated(labelled, labelled, labels)
    assert rule.upper_error((1.0, 5.0, 1.0)) < 0.01
    assert rule.upper_error((1.0, 5.0, 0.0)) == 1.0


def test_a_kind_of_pair_that_was_hardly_ever_labelled_scores_lower_than_its_likeliest_odds():
    labelled, labels = rows((0.0, 300, 150), (1.0, 300, 3))
    rule = calibrated(labelled, labelled, labels)
    mean = rule.weights[0] + rule.weights[1] * 9.0 + rule.weights[2]
    assert rule.score((1.0, 9.0, 1.0)) < mean - 1.0


def test_evidence_is_bounded_and_the_labels_of_hits_are_not_pushed_out():
    evidence = Evidence(2)
    evidence.label((1.0, 7.0), is_right=True, was_certain=True)
    for number in range(MOST_LABELS + 100):
        evidence.label((1.0, float(number)), is_right=False, was_certain=False)
    seen, labelled, labels = evidence.snapshot()
    assert (len(seen), len(labelled), labels.sum()) == (0, MOST_LABELS + 1, 1.0)
    assert labelled[:, 1].max() == MOST_LABELS + 99
    assert evidence.size_bytes < 40 * MOST_LABELS


def test_a_ring_keeps_the_last_rows():
    ring = Ring(1, 3)
    for number in range(5):
        ring.add((float(number),))
    assert sorted(ring.matrix()[:, 0]) == [2.0, 3.0, 4.0]


@pytest.mark.parametrize(("share", "count", "limit"), [(0.0, 300, 0.009), (0.01, 1000, 0.0166), (0.5, 100, 0.581)])
def test_the_upper_limit_is_wilsons(share, count, limit):
    assert upper_share(share, count, 1.645) == pytest.approx(limit, abs=0.001)
