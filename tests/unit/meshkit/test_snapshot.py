import pytest

from meshkit.registry import Instance
from meshkit.registry.snapshot import SnapshotStore

A = Instance(id="a", service="mesh-cache", address="h:1", metadata={"model": "m"}, is_passing=False)


def test_what_was_saved_is_loaded_by_another_process(tmp_path):
    SnapshotStore(tmp_path / "new").save("mesh-cache", (A,))
    assert SnapshotStore(tmp_path / "new").load("mesh-cache") == (A,)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mesh-cache.json"]


CORRUPT = ["", "{", "[1]", "{}", "7", "null", '[{"id": "a"}]', '[{"id":"a","address":"h","metadata":1,"is_passing":1}]']


@pytest.mark.parametrize("text", CORRUPT)
def test_a_corrupt_file_is_no_memory_and_no_error(tmp_path, text):
    (tmp_path / "mesh-cache.json").write_text(text)
    assert SnapshotStore(tmp_path).load("mesh-cache") == ()


def test_a_file_that_is_not_text_is_no_memory_and_no_error(tmp_path):
    (tmp_path / "mesh-cache.json").write_bytes(b"\xff\x00")
    assert SnapshotStore(tmp_path).load("mesh-cache") == ()


def test_an_absent_file_is_no_memory(tmp_path):
    assert SnapshotStore(tmp_path).load("mesh-cache") == ()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    store = SnapshotStore(tmp_path / "file" / "below")
    store.save("mesh-cache", (A,))
    assert store.load("mesh-cache") == ()


def test_a_file_that_cannot_be_replaced_is_no_error_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "mesh-cache.json" / "occupied").mkdir(parents=True)
    SnapshotStore(tmp_path).save("mesh-cache", (A,))
    assert [path.name for path in tmp_path.iterdir()] == ["mesh-cache.json"]
