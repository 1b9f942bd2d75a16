"""Archives from elsewhere: what is harmless is unpacked, the rest leaves no trace."""

import errno
import io
import random
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from cellular_bench.core.errors import DataError
from cellular_bench.datasets.sources import archives
from cellular_bench.datasets.sources.archives import unpack


def zip_of(path: Path, files: dict[str, bytes], *, link: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    return path


def tar_of(path: Path, files: dict[str, bytes], *, entry: tarfile.TarInfo | None = None) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if entry:
            archive.addfile(entry)
    return path


GOOD = {"a.txt": b"alpha", "sub/b.txt": b"beta" * 1000}


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(("make", "name"), [(zip_of, "x.zip"), (tar_of, "x.tar"), (tar_of, "x.tar.gz")])
def test_files_come_out_as_they_went_in(tmp_path, make, name):
    path = make(tmp_path / name, GOOD)
    files = unpack(path, tmp_path / "out")
    assert contents(tmp_path / "out") == GOOD
    assert [file.relative_to(tmp_path / "out").as_posix() for file in files] == ["a.txt", "sub/b.txt"]


OUTSIDE = ["../evil.txt", "sub/../../evil.txt", "/tmp/evil.txt", "C:\\evil.txt", "..\\evil.txt", "C:evil.txt"]


@pytest.mark.parametrize("make", [zip_of, tar_of])
@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_is_written_outside_the_target(tmp_path, make, name):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    path = make(tmp_path / "x.archive", {"good.txt": b"1", name: b"evil"})
    with pytest.raises(DataError, match="would be written outside the target folder; refused"):
        unpack(path, folder / "out")
    assert contents(tmp_path) == {"x.archive": path.read_bytes()}
    assert list(folder.iterdir()) == []


def test_an_archive_of_a_folder_begins_with_the_folder_itself(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(b"alpha")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "in", arcname=".")
    unpack(tmp_path / "x.tar", tmp_path / "out")
    assert contents(tmp_path / "out") == {"a.txt": b"alpha"}


def test_links_and_devices_are_refused(tmp_path):
    with pytest.raises(DataError, match="Its entry 'ln' is a link; refused"):
        unpack(zip_of(tmp_path / "x.zip", {"a": b"1"}, link="ln"), tmp_path / "out")
    kinds = {
        tarfile.SYMTYPE: "a link",
        tarfile.LNKTYPE: "a link",
        tarfile.CHRTYPE: "neither",
        tarfile.FIFOTYPE: "n",
    }
    for kind, said in kinds.items():
        entry = tarfile.TarInfo("odd")
        entry.type, entry.linkname = kind, "/etc/passwd"
        with pytest.raises(DataError, match=f"Its entry 'odd' is {said}"):
            unpack(tar_of(tmp_path / "x.tar", {"a": b"1"}, entry=entry), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("make", "name"), [(zip_of, "x.zip"), (tar_of, "x.tar.gz")])
def test_bombs_are_stopped_by_the_bytes_that_come(tmp_path, make, name):
    path = make(tmp_path / name, {"zeros": bytes(5_000_000)})
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match="more than 1000000 bytes; refused, because it may be a bomb"):
        unpack(path, tmp_path / "out", max_bytes=1_000_000)
    assert not (tmp_path / "out").exists()
    assert contents(tmp_path) == {name: path.read_bytes()}
    assert len(unpack(path, tmp_path / "out", max_bytes=5_000_000)) == 1


def test_a_size_that_the_archive_lies_about_does_not_help_it(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"zeros": bytes(2_000_000)})
    real, claimed = (2_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(real, claimed))
    with pytest.raises(DataError, match=r"damaged or incomplete|may be a bomb"):
        unpack(path, tmp_path / "out", max_bytes=1_000_000)


@pytest.mark.parametrize("name", ["{}", "{}/"])
def test_too_many_files_or_folders_are_refused(tmp_path, name):
    path = zip_of(tmp_path / "x.zip", {name.format(number): b"" for number in range(11)})
    with pytest.raises(DataError, match="It holds more than 10 files and folders"):
        unpack(path, tmp_path / "out", max_files=10)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_comes_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(DataError, match="It holds 'a' twice"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.parametrize(("make", "name"), [(zip_of, "x.zip"), (tar_of, "x.tar.gz")])
def test_truncated_archives_are_named(tmp_path, make, name):
    noise = b"".join(zlib.crc32(str(number).encode()).to_bytes(4, "little") for number in range(50_000))
    path = make(tmp_path / name, {"noise": noise})
    path.write_bytes(path.read_bytes()[:-70_000])
    with pytest.raises(DataError, match=r"damaged or incomplete|no archive that can be unpacked"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def damaged(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_a_damaged_byte_in_a_tar_is_found_by_its_checksum(tmp_path, kind):
    noise = random.Random(0).randbytes(300_000)
    path = tmp_path / f"x.tar.{kind}"
    with tarfile.open(path, f"w:{kind}") as archive:
        info = tarfile.TarInfo("noise")
        info.size = len(noise)
        archive.addfile(info, io.BytesIO(noise))
    unpack(path, tmp_path / "whole")
    assert contents(tmp_path / "whole") == {"noise": noise}
    with pytest.raises(DataError, match="damaged or incomplete"):
        unpack(damaged(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_byte_in_a_zip_is_found(tmp_path, method):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("noise", random.Random(0).randbytes(300_000))
    with pytest.raises(DataError, match="damaged or incomplete"):
        unpack(damaged(path), tmp_path / "out")


def test_a_compression_that_python_lacks_is_named(tmp_path):
    path = zip_of(tmp_path / "x.zip", GOOD)
    content = bytearray(path.read_bytes())
    for start, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(start) + offset] = 9  # Deflate64, which Windows writes where files are large
    path.write_bytes(content)
    with pytest.raises(DataError, match="is compressed by method 9, which Python cannot undo"):
        unpack(path, tmp_path / "out")


def test_a_full_disk_is_not_called_a_damaged_archive(tmp_path, monkeypatch):
    path = zip_of(tmp_path / "x.zip", GOOD)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives, "write_member", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(path, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.zip"]


def test_other_files_are_no_archives(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n" * 500)
    with pytest.raises(DataError, match="expected zip or tar"):
        unpack(tmp_path / "x.csv", tmp_path / "out")


def test_what_was_unpacked_is_used_again(tmp_path):
    path = zip_of(tmp_path / "x.zip", GOOD)
    first = unpack(path, tmp_path / "out")
    path.unlink()
    assert unpack(path, tmp_path / "out") == first


def test_rar_is_named_with_a_way_out(tmp_path):
    path = tmp_path / "x.rar"
    path.write_bytes(b"Rar!\x1a\x07\x01\x00" + bytes(100))
    with pytest.raises(DataError, match=r"rar archive, which cannot be unpacked here\. Unpack it with unar"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
