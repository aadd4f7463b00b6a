"""Both indexes find the nearest: the exact one of the tests and, where it is installed, the real one."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from services.cache.semantic.vector_index import UsearchIndex
from tests.support.semantic import ExactIndex, IndexSuite


class TestExactIndex(IndexSuite):
    @pytest.fixture
    def index(self):
        return ExactIndex()


class TestUsearchIndex(IndexSuite):
    @pytest.fixture
    def index(self):
        pytest.importorskip("usearch")
        with ThreadPoolExecutor(max_workers=1) as thread:
            yield UsearchIndex(thread)
