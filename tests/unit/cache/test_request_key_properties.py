"""Over any request that the contract can carry: another value is another key, another spelling is the same key."""

import json
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.cache.v1 import cache_service_pb2 as pb
from services.cache.plain import plain_message
from services.cache.request_key import DIGEST_BYTES, PARTITION_BYTES, partition, request_digest, storage_key

FIELDS_AT_ONCE = 5
NEVER_DRAWN = 1234
JSON_FIELDS = ("parameters_json", "json_schema")
schemas = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4) | st.booleans(), max_size=4)


def digest(key: pb.CacheKey) -> bytes:
    return request_digest(plain_message(key, "key"))


def is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)


@st.composite
def messages(draw, kind: type[Message]) -> Any:
    """A message of this kind with some of its fields set, nested ones too."""
    message = kind()
    fields = draw(st.lists(st.sampled_from(list(kind.DESCRIPTOR.fields)), max_size=FIELDS_AT_ONCE, unique=True))
    for field in fields:
        if is_map(field):
            getattr(message, field.name).update(draw(st.dictionaries(st.integers(0, 9), numbers(), max_size=3)))
        elif field.message_type is not None:
            below = messages(field.message_type._concrete_class)
            if field.is_repeated:
                getattr(message, field.name).extend(draw(st.lists(below, max_size=2)))
            else:
                getattr(message, field.name).CopyFrom(draw(below))
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(scalars(field), max_size=3)))
        else:
            setattr(message, field.name, draw(scalars(field)))
    return message


def scalars(field: FieldDescriptor) -> Any:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.name in JSON_FIELDS:
        return schemas.map(json.dumps) | st.text(max_size=6)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.binary(max_size=4) if field.type == FieldDescriptor.TYPE_BYTES else st.text(max_size=6)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return numbers()
    return st.integers(0, 99)


def numbers() -> Any:
    return st.integers(-40, 40).map(lambda quarters: quarters / 4)


keys = messages(pb.CacheKey)


def changed_values(message: Message, prefix: tuple[str, ...] = ()) -> Any:
    """Each scalar that is set, as a path and a way to give it a value that it does not have."""
    for field, value in message.ListFields():
        path = (*prefix, field.name)
        if is_map(field):
            yield path, lambda value=value: value.__setitem__(NEVER_DRAWN, 3.5)
        elif field.message_type is not None:
            for below in value if field.is_repeated else [value]:
                yield from changed_values(below, path)
        elif field.is_repeated:
            yield path, lambda value=value, field=field: value.append(unlike(field, None))
        else:
            yield (
                path,
                lambda message=message, field=field, value=value: setattr(message, field.name, unlike(field, value)),
            )


def unlike(field: FieldDescriptor, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return 98 if value is None else value + 1
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return not value
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return b"new" if field.type == FieldDescriptor.TYPE_BYTES else f"{value or ''}[new"
    return NEVER_DRAWN if value is None else value + NEVER_DRAWN


@given(keys, st.data())
@settings(max_examples=60, deadline=None)
def test_another_value_of_any_field_of_any_request_is_another_key(key, data):
    copy = pb.CacheKey.FromString(key.SerializeToString())
    ways = list(changed_values(copy))
    if ways:
        _, change = data.draw(st.sampled_from(ways))
        change()
        assert digest(copy) != digest(key)


@given(keys, st.randoms(), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_another_order_of_fields_and_another_spelling_of_tools_are_the_same_key(key, random, indent):
    written = pb.CacheKey.FromString(shuffled_wire(key, random))
    biases = list(key.sampling.logit_bias.items())
    random.shuffle(biases)
    if biases:
        written.sampling.ClearField("logit_bias")
        written.sampling.logit_bias.update(dict(biases))
    for tool in written.prompt.tools:
        tool.parameters_json = respelt(tool.parameters_json, random, indent)
    assert digest(written) == digest(key)


@given(keys, st.randoms())
@settings(max_examples=30, deadline=None)
def test_defaults_that_the_contract_names_are_the_same_key_written_out(key, random):
    written = pb.CacheKey.FromString(key.SerializeToString())
    if not written.sampling.HasField("n"):
        written.sampling.n = 1
    if not written.stopping.HasField("min_tokens"):
        written.stopping.min_tokens = 0
    written.sampling.logit_bias[NEVER_DRAWN] = 0.0
    ids = [*written.stopping.stop_token_ids, *written.stopping.stop_token_ids]
    random.shuffle(ids)
    written.stopping.stop_token_ids[:] = ids
    assert digest(written) == digest(key)


def shuffled_wire(message: Message, random: Any) -> bytes:
    """The same message with its fields in another order on the wire; single messages come in pieces, which merge."""
    pieces = []
    for field, value in message.ListFields():
        if field.message_type is not None and not field.is_repeated:
            pieces.extend(length_delimited(field.number, piece) for piece in (shuffled_wire(value, random), b""))
        else:
            alone = type(message)()
            single = getattr(alone, field.name, None)
            if is_map(field):
                single.update(value)
            elif field.is_repeated:
                single.extend(value)
            else:
                setattr(alone, field.name, value)
            pieces.append(alone.SerializeToString())
    random.shuffle(pieces)
    return b"".join(pieces)


def length_delimited(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def respelt(text: str, random: Any, indent: int) -> str:
    try:
        items = list(json.loads(text).items())
    except (ValueError, AttributeError):
        return text
    random.shuffle(items)
    return json.dumps(dict(items), indent=indent, ensure_ascii=random.random() < 0.5)


@given(st.text(max_size=10), st.text(max_size=10), st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES))
def test_all_of_a_tenant_lies_under_its_partition_and_nothing_of_another(tenant, other, digest_):
    key = storage_key(tenant, digest_)
    assert len(key) == PARTITION_BYTES + DIGEST_BYTES
    assert key.startswith(partition(tenant))
    assert key.startswith(partition(other)) == (tenant == other)


@given(st.text(max_size=10), st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES), st.integers(0, DIGEST_BYTES))
def test_every_prefix_of_a_digest_is_a_prefix_of_its_place(tenant, digest_, length):
    assert storage_key(tenant, digest_).startswith(partition(tenant) + digest_[:length])
