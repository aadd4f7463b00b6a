"""Counts for hosted models, with one of tiktoken's real files."""

from pathlib import Path

import pytest
import tiktoken
import tiktoken.load

from services.compressor.hosted_counter import HostedCounters, file_name
from services.compressor.token_counter import CountUnavailable
from tests.support.tiktoken_files import ENCODING, MODEL, lay_out

TEXTS = ["Who built the lighthouse of Karsk?", "", "年 2024: naïve <|endoftext|>", "a\ud800b"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return lay_out(tmp_path_factory.mktemp("tiktoken"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(address: str) -> bytes:
        raise AssertionError(f"{address} would have been fetched")

    monkeypatch.setattr(tiktoken.load, "read_file", refuse)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")


async def test_a_hosted_models_tokens_are_those_of_its_messages_and_of_what_its_chat_format_adds(folder):
    counter = HostedCounters(str(folder)).counter_for(MODEL)
    assert counter
    found = await counter.count(TEXTS)
    encoding = tiktoken.get_encoding(ENCODING)
    said = [encoding.encode_ordinary(text) for text in (TEXTS[0], TEXTS[2], "a?b")]
    assert found == 3 + sum(4 + len(ids) for ids in said)


async def test_a_missing_file_is_not_fetched(tmp_path):
    counter = HostedCounters(str(tmp_path)).counter_for(MODEL)
    assert counter
    with pytest.raises(CountUnavailable):
        await counter.count(TEXTS)


async def test_a_file_that_is_another_than_it_says_is_neither_used_nor_replaced(folder, tmp_path):
    path = tmp_path / file_name(ENCODING)
    path.write_bytes((folder / file_name(ENCODING)).read_bytes()[:-20])
    counter = HostedCounters(str(tmp_path)).counter_for(MODEL)
    assert counter
    with pytest.raises(CountUnavailable):
        await counter.count(TEXTS)
    assert path.exists()


@pytest.mark.parametrize("model", ["", "qwen2.5-coder-0.5b", "davinci"])
def test_a_model_that_is_not_known_to_be_hosted_has_no_counter(folder, model):
    assert HostedCounters(str(folder)).counter_for(model) is None


def test_without_a_folder_there_is_no_counter():
    assert HostedCounters("").counter_for(MODEL) is None
