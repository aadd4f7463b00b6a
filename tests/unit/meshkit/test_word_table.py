"""The word table is found in the model's file, whatever else lies there, and a file that is none is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.embedding.minilm import Unavailable
from meshkit.embedding.onnx_tensors import tensors
from meshkit.embedding.words import MiniLmWords
from tests.support.real import missing


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def initializer(name: str, raw: bytes) -> bytes:
    return field(5, bytes([1 << 3, 2, 1 << 3, 3]) + field(8, name.encode()) + field(9, raw))


def test_a_named_tensor_is_found_in_place_with_its_shape():
    graph = field(7, initializer("other", b"zz") + initializer("wanted", b"abcdef"))
    file = bytes([1 << 3, 9]) + graph
    found = tensors(memoryview(file), ["wanted"])
    assert list(found) == ["wanted"]
    assert found["wanted"].shape == (2, 3)
    assert file[found["wanted"].offset :][: found["wanted"].byte_count] == b"abcdef"


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content):
    try:
        assert tensors(memoryview(content), ["wanted"]).keys() <= {"wanted"}
    except ValueError:
        pass


def test_words_of_like_meaning_are_nearer_than_others_and_rare_words_say_more():
    words = MiniLmWords()
    try:
        [doctor], [physician], [banana], [the] = words.ids(["doctor", "physician", "banana", "the"])
    except Unavailable as problem:
        missing(str(problem))
    near, far = words.cosines([doctor], [physician, banana])[0]
    assert near > 0.4 > far
    rare, common = words.rarity([physician, the])
    assert rare > common


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("meshkit.embedding.words.MODEL", ("no_such_package", "model.onnx", ""))
    with pytest.raises(Unavailable, match="no_such_package"):
        MiniLmWords().ids(["a"])
