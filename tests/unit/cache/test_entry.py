"""Stored bytes: what was encoded is decoded, and nothing else ever is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.entry import MAGIC, VERSION, Unreadable, decode, encode
from tests.support.cache_stores import KEY, OTHER_KEY, an_entry

ENCODED = encode(KEY, an_entry(b"some answer" * 20, wall=1_700_000_000.0))


@given(st.binary(max_size=2000))
def test_every_payload_comes_back_whole(payload):
    entry = an_entry(payload, wall=1.5)
    assert decode(KEY, encode(KEY, entry)) == entry


@given(st.integers(0, len(ENCODED) - 1), st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_makes_an_entry_unreadable(position, difference):
    changed = bytearray(ENCODED)
    changed[position] ^= difference
    with pytest.raises(Unreadable):
        decode(KEY, bytes(changed))


@pytest.mark.parametrize("length", range(len(ENCODED)))
def test_a_truncated_entry_is_unreadable(length):
    with pytest.raises(Unreadable):
        decode(KEY, ENCODED[:length])


@given(st.binary(max_size=200))
def test_rubbish_is_unreadable(data):
    with pytest.raises(Unreadable):
        decode(KEY, data)


def test_an_entry_under_another_key_is_unreadable():
    with pytest.raises(Unreadable):
        decode(OTHER_KEY, ENCODED)


def test_an_entry_of_another_version_is_unreadable():
    assert ENCODED.startswith(MAGIC + bytes([VERSION]))
    with pytest.raises(Unreadable):
        decode(KEY, MAGIC + bytes([VERSION + 1]) + ENCODED[len(MAGIC) + 1 :])
