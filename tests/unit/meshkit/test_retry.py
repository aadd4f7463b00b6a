from meshkit.retry import RetryBudget, backoff_s


def test_a_burst_is_allowed_and_then_a_share_of_requests():
    budget = RetryBudget(ratio=0.1, burst=3)
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
    for _ in range(9):
        budget.earn()
    assert not budget.spend()
    budget.earn()
    budget.earn()
    assert budget.spend()
    assert not budget.spend()


def test_an_outage_costs_at_most_the_ratio():
    budget = RetryBudget(ratio=0.1, burst=10)
    retry_count = 0
    for _ in range(10_000):
        budget.earn()
        retry_count += budget.spend()
    assert retry_count <= 0.1 * 10_000 + 10


def test_quiet_times_save_no_more_than_the_burst():
    budget = RetryBudget(ratio=0.1, burst=2)
    for _ in range(1000):
        budget.earn()
    assert sum(budget.spend() for _ in range(10)) == 2


def test_backoff_grows_to_its_bound_with_jitter():
    for attempt in range(1, 2000, 50):
        waits_s = [backoff_s(attempt, first_s=0.1, longest_s=1.0) for _ in range(20)]
        assert all(0 <= wait_s <= min(1.0, 0.1 * 2 ** min(attempt - 1, 10)) for wait_s in waits_s)
    assert len({backoff_s(3) for _ in range(10)}) > 1
