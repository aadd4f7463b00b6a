"""The export file: what was written comes back, and what is not whole is refused with how far it was."""

import random
from pathlib import Path

import pytest

from meshctl.cache_file import DamagedFile, EntryWriter, read_entries

PAYLOADS = [b"one", b"x" * 1000, bytes(range(256))]


def write(path: Path, payloads=PAYLOADS) -> Path:
    with EntryWriter(path) as writer:
        for payload in payloads:
            writer.add(payload)
    return path


@pytest.mark.parametrize("payloads", [[], [b"only"], [b"a" * size for size in range(1, 300)]])
def test_what_was_written_comes_back_in_order(tmp_path, payloads):
    assert list(read_entries(write(tmp_path / "f", payloads))) == payloads


def test_the_file_is_for_its_owner_alone(tmp_path):
    assert write(tmp_path / "f", [b"a"]).stat().st_mode & 0o077 == 0


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), EntryWriter(tmp_path / "f") as writer:
        writer.add(b"one")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_every_changed_byte_and_every_cut_is_noticed(tmp_path):
    whole = write(tmp_path / "f", [b"one", b"second"]).read_bytes()
    source = random.Random(5)
    broken = [whole[:length] for length in range(len(whole))]
    broken += [whole + b"\x00", whole + whole]
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= source.randrange(1, 256)
        broken.append(bytes(changed))
    for data in broken:
        (tmp_path / "f").write_bytes(data)
        with pytest.raises(DamagedFile):
            list(read_entries(tmp_path / "f"))


def test_frames_of_another_file_or_in_another_order_are_noticed(tmp_path):
    one = write(tmp_path / "one", [b"aaaa", b"bbbb"]).read_bytes()
    other = write(tmp_path / "other", [b"cccc", b"dddd"]).read_bytes()
    header, frame = 8, 4 + 16 + 4
    first, second, rest = (
        one[header : header + frame],
        one[header + frame : header + 2 * frame],
        one[header + 2 * frame :],
    )
    foreign = other[header + frame : header + 2 * frame]
    for data in (second + first + rest, first + foreign + rest, second + rest, first + first + second + rest):
        (tmp_path / "f").write_bytes(one[:header] + data)
        with pytest.raises(DamagedFile):
            list(read_entries(tmp_path / "f"))


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"", "not written by"), (b"PK\x03\x04....", "not written by"), (b"MCACHE\x00\x09", "not version 1")],
)
def test_another_kind_of_file_is_named_for_what_it_is(tmp_path, data, says):
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(DamagedFile, match=says):
        list(read_entries(tmp_path / "f"))
