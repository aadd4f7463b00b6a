from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import ListValue
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.cache.v1 import cache_service_pb2 as cache
from mesh.router.v1 import router_service_pb2 as router
from meshkit.wire import invalid_utf8_field

DESCRIPTOR: Any = cache.LookupRequest.DESCRIPTOR
MARK = "mark"
BROKEN = b"m\xffrk"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(data):
    invalid_utf8_field(data, DESCRIPTOR)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_no_change_to_a_valid_message_makes_it_raise_and_what_it_finds_cannot_be_parsed(noise, position):
    valid = cache.LookupRequest(key=cache.CacheKey(model="a model", revision="r")).SerializeToString()
    data = valid[:position] + noise + valid[position:]
    if invalid_utf8_field(data, DESCRIPTOR) is None:
        return
    try:
        cache.LookupRequest.FromString(data)
    except DecodeError:
        return
    raise AssertionError("a field was blamed in a message that can be parsed")


def messages() -> Iterator[tuple[Any, str]]:
    """Each a message with one string MARK and the path of its field."""
    request = router.GenerateRequest()
    request.prompt.text = MARK
    yield request, "prompt.text"
    request = router.GenerateRequest(model="m")
    request.prompt.messages.messages.add(role="user", content="fine")
    request.prompt.messages.messages.add(role="user", content=MARK)
    yield request, "prompt.messages.messages.content"
    request = router.GenerateRequest()
    request.stopping.stop.extend(["fine", MARK])
    yield request, "stopping.stop"
    request = router.GenerateRequest(labels={"key": MARK})
    yield request, "labels.value"


def test_the_field_is_named_by_its_path():
    for message, path in messages():
        data = message.SerializeToString().replace(MARK.encode(), BROKEN)
        assert invalid_utf8_field(data, message.DESCRIPTOR) == path


def test_valid_text_of_any_script_is_blamed_on_nobody():
    message = cache.LookupRequest(key=cache.CacheKey(model="größe 模型 🙂\x00"))
    assert invalid_utf8_field(message.SerializeToString(), DESCRIPTOR) is None


def test_nesting_without_end_is_given_up():
    data = b""
    for _ in range(1000):
        data = b"\x0a" + _varint(len(data)) + data
    nested: Any = ListValue.DESCRIPTOR
    assert invalid_utf8_field(data, nested) is None


def test_a_message_of_countless_fields_is_given_up():
    assert invalid_utf8_field(b"\x98\x06\x01" * 100_000, DESCRIPTOR) is None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))
