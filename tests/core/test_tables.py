"""Tables of text that somebody else may have written."""

import bz2
import gzip
import lzma
import os

import pytest

from cellular_bench.core import tables
from cellular_bench.core.tables import read_named, read_text_table

TEXT = b"cell,x\n007,1\nNA,2\n"


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_a_table_is_read_however_it_is_packed(tmp_path, suffix, pack):
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(pack(TEXT))
    (tmp_path / f"link.csv{suffix}").symlink_to(path.name)
    for one in (path, tmp_path / f"link.csv{suffix}"):
        assert read_named(one).to_dict() == {"x": {"007": 1, "NA": 2}}


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_attacks_by_bombs_and_damage_are_refused(tmp_path, monkeypatch, suffix, pack):
    path, packed = tmp_path / f"a.csv{suffix}", pack(TEXT * 10**4)
    for damaged in (packed[: len(packed) // 2], b"", b"x" * 99, packed[:20] + b"\xff" * 20 + packed[40:]):
        path.write_bytes(damaged)
        with pytest.raises((OSError, ValueError), match=r"."):
            read_text_table(path)
    path.write_bytes(packed)
    monkeypatch.setattr(tables, "most_unpacked", lambda n_bytes: 10**5)
    with pytest.raises(ValueError, match="unpacks to more than 100000 bytes"):
        read_text_table(path)


def test_attack_by_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(OSError, match="not a regular file"):
        read_text_table(tmp_path / "a.csv")
