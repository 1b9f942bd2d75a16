"""Files are replaced as a whole, or stay as they were."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cellular_bench.core.errors import UserError
from cellular_bench.core.files import (
    append_text,
    below,
    discard,
    folder_below,
    is_plain_name,
    read_regular,
    regular_below,
    replacing,
    write_text_atomically,
)


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


def test_temporary_files_are_made_and_never_opened_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "secret").write_text("kept")

    class Fixed:
        hex = "0"

    monkeypatch.setattr("cellular_bench.core.files.uuid.uuid4", Fixed)
    (tmp_path / ".x.txt.0").symlink_to("secret")
    with pytest.raises(FileExistsError), replacing(tmp_path / "x.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "secret").read_text() == "kept"


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path):
    (tmp_path / "secret").write_text("kept")
    (tmp_path / "x.txt").symlink_to("secret")
    write_text_atomically(tmp_path / "x.txt", "new")
    assert ((tmp_path / "secret").read_text(), (tmp_path / "x.txt").read_text()) == ("kept", "new")
    assert not (tmp_path / "x.txt").is_symlink()


@pytest.mark.parametrize("name", ["..", "a/b", "", "/etc", "\x00", "x" * 256])
def test_nothing_but_names_leads_below_a_folder(tmp_path: Path, name: str):
    with pytest.raises(UserError, match="cannot be the name of a file"):
        below(tmp_path, "a", name)


def test_no_link_is_on_the_way(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert folder_below(tmp_path, "real", "new").is_dir()
    for function in (below, folder_below, regular_below):
        with pytest.raises(UserError, match="link is a symbolic link"):
            function(tmp_path, "link", "new")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is no regular file"):
        regular_below(tmp_path, "pipe")
    with pytest.raises(UserError, match="pipe is no folder"):
        folder_below(tmp_path, "pipe")


def test_what_is_discarded_is_not_what_a_link_leads_to(tmp_path: Path):
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    discard(tmp_path / "link")
    discard(tmp_path / "nothing")
    assert (tmp_path / "real" / "inner").is_dir()
    discard(tmp_path / "real")
    assert list(tmp_path.iterdir()) == []


def test_only_a_file_is_appended_to(tmp_path: Path):
    append_text(tmp_path / "file", "a")
    append_text(tmp_path / "file", "b")
    assert (tmp_path / "file").read_text() == "ab"
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError, match=name):
            append_text(tmp_path / name, "c")
    assert (tmp_path / "file").read_text() == "ab"
