"""Which requests share an answer: every field counts, and spelling does not."""

import json
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.cache.v1 import cache_service_pb2 as pb
from meshkit.errors import InvalidRequest
from services.cache.plain import plain_message
from services.cache.request_key import is_repeatable, request_digest, storage_key

BASE: dict[str, Any] = {
    "prompt": {"messages": {"messages": [{"role": "user", "content": "hi"}]}},
    "model": "m",
    "revision": "r",
    "sampling": {"temperature": 0.0},
}


def key_message(**changes) -> pb.CacheKey:
    key = pb.CacheKey(model="m", revision="r")
    message = key.prompt.messages.messages.add(role="user", content="hi")
    message.tool_calls.add(id="1", name="f", arguments="{}")
    key.prompt.tools.add(name="f", parameters_json="{}")
    key.sampling.temperature = 0.0
    for name, value in changes.items():
        setattr(key, name, value)
    return key


def digest(key: pb.CacheKey) -> bytes:
    return request_digest(plain_message(key, "key"))


def paths_to_change(message, prefix=()):
    """Every leaf field that a key message can carry, as a path of field names."""
    for field in message.DESCRIPTOR.fields:
        path = (*prefix, field)
        if field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE or field.message_type.GetOptions().map_entry:
            yield path
        else:
            yield from paths_to_change(field.message_type._concrete_class(), path)


PATHS = list(paths_to_change(pb.CacheKey()))


def change(message, path) -> None:
    """Give the field at the end of the path another value than it has; a oneof's other form counts as another value."""
    *parents, leaf = path
    for field in parents:
        child = getattr(message, field.name)
        message = (child[0] if len(child) else child.add()) if field.is_repeated else child
        if not field.is_repeated:
            message.SetInParent()
    if leaf.message_type is not None:
        getattr(message, leaf.name)[7] = 1.5
    elif leaf.is_repeated:
        getattr(message, leaf.name).append(another(leaf, None))
    else:
        setattr(message, leaf.name, another(leaf, getattr(message, leaf.name)))


def another(field, value):
    if field.type == FieldDescriptor.TYPE_ENUM:
        return 2
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return not value
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return f"{value or ''}x"
    return (value or 0) + 2


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(field.name for field in path))
def test_every_field_of_the_contract_changes_the_digest(path):
    changed = key_message()
    change(changed, path)
    assert digest(changed) != digest(key_message())


def test_a_field_that_only_a_newer_contract_knows_changes_the_digest():
    newer = pb.CacheKey.FromString(key_message().SerializeToString() + b"\xc2\x3e\x03new")
    newest = pb.CacheKey.FromString(key_message().SerializeToString() + b"\xc2\x3e\x03old")
    assert len({digest(newer), digest(newest), digest(key_message())}) == 3


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_refused_with_its_field(number):
    key = key_message()
    key.sampling.top_p = number
    with pytest.raises(InvalidRequest) as raised:
        digest(key)
    assert raised.value.field == "key.sampling.top_p"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)


def shuffled(value, random):
    if isinstance(value, dict):
        items = [(name, shuffled(item, random)) for name, item in value.items()]
        random.shuffle(items)
        return dict(items)
    return [shuffled(item, random) for item in value] if isinstance(value, list) else value


def with_tool(parameters_json: str) -> dict[str, Any]:
    prompt = {**BASE["prompt"], "tools": [{"name": "f", "parameters_json": parameters_json}]}
    return {**BASE, "prompt": prompt}


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=5), st.randoms(), st.integers(0, 4), st.booleans())
@settings(max_examples=100, deadline=None)
def test_spacing_escapes_and_key_order_of_tool_schemas_do_not_matter(schema, random, indent, ensure_ascii):
    one = with_tool(json.dumps(schema, separators=(",", ":")))
    two = with_tool(json.dumps(shuffled(schema, random), indent=indent, ensure_ascii=ensure_ascii))
    assert request_digest(one) == request_digest(two)


@given(json_values, json_values)
@settings(max_examples=200, deadline=None)
def test_tool_schemas_with_other_values_are_other_requests(one, two):
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert (request_digest(with_tool(json.dumps(one))) == request_digest(with_tool(json.dumps(two)))) == same


@given(st.dictionaries(st.sampled_from(list(BASE)), st.none(), max_size=4), st.randoms())
def test_the_order_of_fields_does_not_matter(_, random):
    assert request_digest(shuffled(BASE, random)) == request_digest(BASE)


def with_group(group: str, **options) -> dict[str, Any]:
    return {**BASE, group: {**BASE.get(group, {}), **options}}


SAME = [
    with_group("sampling", n=1),
    with_group("sampling", presence_penalty=0.0, frequency_penalty=-0.0),
    with_group("sampling", temperature=-0.0),
    with_group("sampling", logit_bias={"5": 0.0}),
    with_group("stopping", min_tokens=0),
    with_group("output"),
]


@pytest.mark.parametrize("request_", SAME)
def test_a_default_that_the_contract_names_equals_its_absence(request_):
    assert request_digest(request_) == request_digest(BASE)


def test_a_models_own_defaults_are_not_guessed():
    assert request_digest(with_group("sampling", top_p=1.0)) != request_digest(BASE)


def test_two_spellings_of_all_tokens_are_the_same():
    assert request_digest(with_group("sampling", top_k=-1)) == request_digest(with_group("sampling", top_k=0))


def test_stop_token_ids_are_a_set_and_stop_strings_are_not():
    assert request_digest(with_group("stopping", stop_token_ids=[1, 2, 2])) == request_digest(
        with_group("stopping", stop_token_ids=[2, 1])
    )
    assert request_digest(with_group("stopping", stop=["a", "b"])) != request_digest(
        with_group("stopping", stop=["b", "a"])
    )


def test_key_order_counts_in_a_constraint_since_it_steers_the_answer():
    one = with_group("constraint", json_schema='{"a": 1, "b": 2}')
    assert request_digest(one) == request_digest(with_group("constraint", json_schema='{"a":1,"b":2}'))
    assert request_digest(one) != request_digest(with_group("constraint", json_schema='{"b": 2, "a": 1}'))


@pytest.mark.parametrize("spellings", [("1", "1.0"), ('{"a":1,"a":2}', '{"a":2,"a":1}'), ("{", "{ "), ('"1"', "1")])
def test_numbers_duplicate_keys_and_broken_json_stay_apart(spellings):
    one, two = spellings
    assert request_digest(with_tool(one)) != request_digest(with_tool(two))


def test_json_nested_too_deeply_to_be_read_is_taken_as_text():
    deep = "[" * 100_000
    assert request_digest(with_tool(deep)) != request_digest(with_tool(deep + " "))


@given(st.text(max_size=10), st.text(max_size=10), st.binary(max_size=40), st.binary(max_size=40))
def test_no_two_tenants_and_digests_share_a_place(tenant, other, digest_, other_digest):
    same = (tenant, digest_) == (other, other_digest)
    assert (storage_key(tenant, digest_) == storage_key(other, other_digest)) == same


def test_who_shares_an_answer_is_part_of_the_digest():
    sharings = [(), ("principal", "a"), ("principal", "b"), ("session", "", "a"), ("session", "a", "")]
    assert len({request_digest(BASE, sharing) for sharing in sharings}) == len(sharings)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [({"temperature": 0.0}, True), ({"temperature": 0.7}, False), ({}, False), ({"temperature": 1.0, "seed": 0}, True)],
)
def test_a_request_is_repeatable_at_temperature_zero_or_with_a_seed(sampling, expected):
    assert is_repeatable(sampling) == expected
