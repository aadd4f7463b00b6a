"""Whether work on a text takes time in proportion to the text's length."""

import time
from collections.abc import Callable


def cpu_s(work: Callable[[], object]) -> float:
    """CPU time of this thread."""
    started_at = time.thread_time()
    work()
    return time.thread_time() - started_at


def assert_time_grows_with_length(shorten: Callable[[str], str], text_of: Callable[[int], str], chars: int) -> None:
    """`text_of` makes a text of about so many characters, of which `chars` is the longest; none may get longer.

    A second try counts as well, since Python may collect the garbage of all tests in the middle of the first.
    """

    def took_s(text: str) -> float:
        def work() -> None:
            assert len(shorten(text)) <= len(text)

        return cpu_s(work)

    # Eight times the text; three times that for noise, where quadratic time would be 64 times.
    assert any(took_s(text_of(chars)) < 24 * max(took_s(text_of(chars // 8)), 0.005) for _ in range(2))
