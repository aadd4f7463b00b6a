"""Rules of the pool of KV blocks."""

from __future__ import annotations

import pytest

from services.inference.engine.blocks import BlockPool


def filled(pool: BlockPool, *digests: bytes) -> list[int]:
    """Blocks with this content, held."""
    assert pool.reserve(len(digests))
    block_ids = pool.take(len(digests))
    for block_id, digest in zip(block_ids, digests, strict=True):
        pool.store(block_id, digest)
    return block_ids


def test_reservation_takes_all_blocks_or_none() -> None:
    pool = BlockPool(4)
    assert pool.reserve(3)
    assert not pool.reserve(2)
    assert (pool.free_count, pool.promised_count) == (1, 3)
    assert len(set(pool.take(3))) == 3
    assert (pool.free_count, pool.promised_count) == (1, 0)


def test_no_more_can_be_taken_than_was_promised() -> None:
    pool = BlockPool(4)
    pool.reserve(2)
    pool.forgo(1)
    with pytest.raises(ValueError, match="not promised"):
        pool.take(2)


def test_a_promise_evicts_nothing_until_it_is_taken_up() -> None:
    pool = BlockPool(2)
    pool.release(filled(pool, b"a"))
    assert pool.reserve(2)
    assert pool.find(b"a") is not None
    pool.take(1)
    assert pool.find(b"a") is not None
    pool.take(1)
    assert pool.find(b"a") is None


def test_a_free_block_keeps_its_content_until_nothing_blank_is_left() -> None:
    pool = BlockPool(3)
    (block_id,) = filled(pool, b"a")
    pool.release([block_id])
    assert pool.free_count == 3
    pool.reserve(3)
    pool.take(2)
    assert pool.find(b"a") == block_id
    assert pool.take(1) == [block_id]
    assert pool.find(b"a") is None


def test_least_recently_used_content_goes_first_and_the_end_of_a_prefix_before_its_beginning() -> None:
    pool = BlockPool(4)
    first, second = filled(pool, b"a", b"ab"), filled(pool, b"c", b"cd")
    pool.release(second)
    pool.release(first)
    left = []
    pool.reserve(4)
    for _ in range(4):
        pool.take(1)
        left.append([digest for digest in (b"a", b"ab", b"c", b"cd") if pool.find(digest) is not None])
    assert left == [[b"a", b"ab", b"c"], [b"a", b"ab"], [b"a"], []]


def test_a_shared_block_is_free_when_its_last_holder_lets_go() -> None:
    pool = BlockPool(2)
    shared = filled(pool, b"a")
    assert pool.reserve(0, shared)
    pool.release(shared)
    assert pool.free_count == 1
    pool.release(shared)
    assert pool.free_count == 2


def test_letting_go_of_a_free_block_is_an_error() -> None:
    pool = BlockPool(2)
    with pytest.raises(ValueError, match="free already"):
        pool.release([1])


def test_shared_blocks_that_lie_free_do_not_count_as_room_for_others() -> None:
    pool = BlockPool(3)
    shared = filled(pool, b"a", b"ab")
    pool.release(shared)
    assert pool.shortage(2, shared) == 1
    assert not pool.reserve(2, shared)
    assert pool.reserve(1, shared)


def test_pinned_content_is_given_up_only_when_a_reservation_says_so() -> None:
    pool = BlockPool(2)
    assert pool.pin(b"a")
    block_ids = filled(pool, b"a")
    pool.release(block_ids)
    assert (pool.free_count, pool.kept_count, pool.used_count) == (1, 1, 1)
    assert not pool.reserve(2)
    assert pool.reserve(2, gives_up_pins=True)
    pool.take(2)
    assert pool.find(b"a") is None


def test_content_can_be_pinned_and_unpinned_while_it_lies_free_or_is_held() -> None:
    pool = BlockPool(2)
    block_ids = filled(pool, b"a")
    pool.pin(b"a")
    pool.release(block_ids)
    assert pool.kept_count == 1
    pool.unpin(b"a")
    assert (pool.kept_count, pool.free_count) == (0, 2)
    pool.pin(b"a")
    assert pool.kept_count == 1
    assert pool.reserve(0, block_ids)
    pool.unpin(b"a")
    pool.release(block_ids)
    assert pool.free_count == 2


def test_pins_take_half_of_the_pool_at_most() -> None:
    pool = BlockPool(4)
    assert [pool.pin(digest) for digest in (b"a", b"b", b"c", b"a")] == [True, True, False, True]


def test_content_of_two_pinned_prefixes_is_kept_until_both_have_let_it_go() -> None:
    pool = BlockPool(4)
    assert pool.pin(b"a") and pool.pin(b"a")
    pool.release(filled(pool, b"a"))
    pool.unpin(b"a")
    assert pool.kept_count == 1
    pool.unpin(b"a")
    pool.unpin(b"a")
    assert (pool.kept_count, pool.free_count) == (0, 4)
    pool.pin(b"a")
    assert pool.kept_count == 1


def test_flush_forgets_everything_and_frees_what_the_cache_alone_had_kept() -> None:
    pool = BlockPool(4)
    pool.pin(b"c")
    held, cached, pinned = filled(pool, b"a"), filled(pool, b"b"), filled(pool, b"c")
    pool.release([*cached, *pinned])
    assert pool.flush() == 2
    assert [pool.find(digest) for digest in (b"a", b"b", b"c")] == [None, None, None]
    assert (pool.free_count, pool.kept_count) == (3, 0)
    pool.release(held)
    assert pool.free_count == 4


def test_changes_are_told_once_and_only_as_far_as_they_lasted() -> None:
    pool = BlockPool(1)
    assert pool.take_changes() is None
    block_ids = filled(pool, b"a")
    changes = pool.take_changes()
    assert changes is not None and (changes.stored, changes.evicted) == ([b"a"], [])
    pool.release(block_ids)
    pool.release(filled(pool, b"b"))
    pool.reserve(1)
    pool.take(1)
    changes = pool.take_changes()
    assert changes is not None and (changes.stored, changes.evicted) == ([], [b"a"])
    assert pool.take_changes() is None
