"""Files are replaced as a whole, or stay as they were."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cellular_bench.core.files import is_plain_name, read_regular, replacing, write_text_atomically


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_that_fails_in_the_middle_leaves_nothing(tmp_path: Path, before: str | None):
    path = tmp_path / "x.txt"
    if before is not None:
        path.write_text(before)

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of it")
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        fail()
    assert [file.name for file in tmp_path.iterdir()] == ([] if before is None else ["x.txt"])
    assert before is None or path.read_text() == before
    write_text_atomically(path, "new")
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]


def _link(path: Path) -> None:
    path.with_name("target").write_bytes(b"secret")
    path.symlink_to("target")


@pytest.mark.parametrize(
    "make",
    [_link, os.mkfifo, Path.mkdir, lambda path: path.write_bytes(bytes(11))],
    ids=["link", "pipe", "folder", "long"],
)
def test_what_is_no_regular_file_or_too_long_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]):
    make(tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        read_regular(tmp_path / "file", most_bytes=10)


def test_a_regular_file_is_read(tmp_path: Path):
    (tmp_path / "file").write_bytes(bytes(10))
    assert read_regular(tmp_path / "file", most_bytes=10) == bytes(10)


@pytest.mark.parametrize("name", ["\ud800", "x" * 256, "a\nb", "a\u202eb"])
def test_odd_names_are_not_plain(name: str):
    assert not is_plain_name(name)
