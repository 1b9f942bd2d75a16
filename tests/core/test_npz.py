"""Attacks by files of arrays: whatever their bytes are, they are read as they are or refused in words."""

import io
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from cellular_bench.core.npz import MOST_ARRAYS, open_npz, read_arrays

FAST = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def declared(descr: str, shape: str, content: bytes = b"", *, fortran: bool = False) -> bytes:
    """An npy file with any header."""
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def packed(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


DTYPES = (
    arrays_of.boolean_dtypes()
    | arrays_of.integer_dtypes()
    | arrays_of.unsigned_integer_dtypes()
    | arrays_of.floating_dtypes(sizes=(16, 32, 64))
    | arrays_of.complex_number_dtypes(sizes=(64, 128))
    | arrays_of.unicode_string_dtypes()
    | arrays_of.byte_string_dtypes()
    | arrays_of.datetime64_dtypes()
)
ARRAYS = arrays_of.arrays(DTYPES, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))


@FAST
@given(st.dictionaries(st.text("abcX_ 1-", min_size=1, max_size=5), ARRAYS, max_size=4), st.booleans())
def test_arrays_are_read_as_numpy_reads_them(tmp_path, arrays, compressed) -> None:
    path = tmp_path / "a.npz"
    packed(
        path,
        {f"{name}.npy": npy(array) for name, array in arrays.items()},
        zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED,
    )
    found = read_arrays(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].shape == array.shape
    for array in arrays.values():
        (tmp_path / "a.npy").write_bytes(npy(array))
        np.testing.assert_array_equal(read_arrays(tmp_path / "a.npy"), array)


def test_the_layout_of_an_array_is_kept(tmp_path) -> None:
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.savez(tmp_path / "a.npz", array=array)
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.npz")["array"], array)


@FAST
@given(st.binary(max_size=300))
def test_any_bytes_are_no_array(tmp_path, content) -> None:
    for start in (b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04"):
        (tmp_path / "a").write_bytes(start + content)
        with pytest.raises(ValueError, match=r"."):
            read_arrays(tmp_path / "a")


@FAST
@given(st.data())
def test_damage_is_found_or_changes_nothing(tmp_path, data) -> None:
    path, array = tmp_path / "a.npz", np.arange(40.0).reshape(8, 5)
    method = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    packed(path, {"x.npy": npy(array), "names.npy": npy(np.array(["a", "b"]))}, method)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        found = read_arrays(path)
    except ValueError as error:
        assert str(error)
    else:  # in a name, a date or a comment
        assert any(np.array_equal(one, array) for one in found.values()) or len(found) < 2


@FAST
@given(st.text("(){}[],:'<>|fUO0123456789 LTrueFalsdcpnox_hi\n", max_size=80))
def test_any_header_is_refused(tmp_path, header) -> None:
    content = header.encode()
    path = packed(
        tmp_path / "a.npz", {"a.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(content)) + content}
    )
    with pytest.raises(ValueError, match=r"."):
        read_arrays(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (declared("'|O'", "(1,)", b"x" * 8), "Python objects"),
        (declared("[('a', '<f8')]", "(1,)", b"x" * 8), "not read"),
        (declared("('<f8', (2,))", "(1,)", b"x" * 16), "not read"),
        (declared("'<f8, <f8'", "(1,)", b"x" * 16), "not read"),
        (declared("'|V8'", "(1,)", b"x" * 8), "not read"),
        (declared("'<f3'", "(1,)", b"x" * 3), "not read"),
        (declared("'<f8'", f"({10**15},)"), "declared to have 8000000000000000 bytes"),
        (declared("'<f8'", "(-1,)"), "not read"),
        (declared("'<U0'", f"({10**15},)"), "declared to have 0 bytes"),
        (declared("'<f8'", f"(0, {10**30})"), "."),
        (declared("'<f8'", "(1,)", b"x" * 9), "declared to have 8 bytes"),
        (declared("'<f8'", "(2,)", b"x" * 8), "declared to have 16 bytes"),
        (declared("'<U1'", "(1,)", b"\xff\xff\xff\xff"), "no character"),
        (declared("'|b1'", "(1,)", b"\x02"), "other values than true and false"),
        (declared("'<f8'", "(" + "1," * 2000 + ")"), "has a header of"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "has a header of 4294967295 bytes"),
        (b"\x93NUMPY\x09\x00\x00\x00", "is not one of numpy"),
        (b"\x93NUMPY", "is not one of numpy|damaged"),
        (b"", "is not one of numpy"),
    ],
)
def test_attacks_by_what_is_declared_use_no_memory(tmp_path, content, message) -> None:
    path = packed(tmp_path / "a.npz", {"a.npy": content})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_attack_by_a_bomb_uses_no_memory(tmp_path) -> None:
    content = declared("'<f8'", f"({2**20},)", bytes(2**23))
    path = packed(tmp_path / "a.npz", {f"a{i}.npy": content for i in range(3)}, zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="unpacks to 25166"), open_npz(path, most_bytes=2**24):
            pass
        with (
            pytest.raises(ValueError, match="compressed in a way that is not read"),
            open_npz(path, compressed=False),
        ):
            pass
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    with open_npz(path, most_bytes=2**25) as file:
        assert file.read("a1").shape == (2**20,)


def test_attack_by_a_wrong_size_uses_no_memory(tmp_path) -> None:
    """The table of contents declares a terabyte, and so does the array."""
    content = declared("'<f8'", f"({2**37},)", bytes(64))
    path = packed(tmp_path / "a.npz", {"a.npy": content}, zipfile.ZIP_DEFLATED)
    written = bytearray(path.read_bytes())
    entry = written.rindex(b"PK\x01\x02")
    extra = struct.pack("<HHQ", 1, 8, 2**40 + len(content) - 64)
    written[entry + 24 : entry + 28] = b"\xff\xff\xff\xff"
    written[entry + 30 : entry + 32] = struct.pack("<H", len(extra))
    name_end = entry + 46 + len("a.npy")
    written[name_end:name_end] = extra
    end = written.rindex(b"PK\x05\x06")
    written[end + 12 : end + 16] = struct.pack("<I", end - entry)
    path.write_bytes(written)
    with zipfile.ZipFile(path) as archive:
        assert archive.infolist()[0].file_size > 2**40
    with pytest.raises(ValueError, match="unpacks to 1099511"):
        read_arrays(path)
    with open_npz(path, most_bytes=2**41) as file:
        assert file.stored["a"].shape == (2**37,)


def test_attack_by_arrays_that_share_their_bytes_is_refused(tmp_path) -> None:
    path = packed(tmp_path / "a.npz", {"a.npy": npy(np.zeros(1000)), "b.npy": npy(np.zeros(1000))})
    content = bytearray(path.read_bytes())
    first, second = content.index(b"PK\x01\x02"), content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_arrays(path)


def test_attack_by_many_arrays_is_refused(tmp_path) -> None:
    path = packed(tmp_path / "a.npz", {f"{i}.npy": b"" for i in range(MOST_ARRAYS + 1)})
    with pytest.raises(ValueError, match="1001 arrays, more than 1000"):
        read_arrays(path)
    path = packed(path, {f"{i:0200}.npy": b"" for i in range(5000)})
    with pytest.raises(ValueError, match="its table of contents has"):
        read_arrays(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_attack_by_one_name_for_two_arrays_is_refused(tmp_path) -> None:
    path = packed(tmp_path / "a.npz", {"a.npy": npy(np.zeros(1)), "a": npy(np.ones(1))})
    with pytest.raises(ValueError, match="one name"):
        read_arrays(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a", b"")
    with pytest.raises(ValueError, match="one name"):
        read_arrays(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_not_read(tmp_path, method) -> None:
    path = packed(tmp_path / "a.npz", {"a.npy": npy(np.zeros(9))}, method)
    with pytest.raises(ValueError, match="compressed in a way"):
        read_arrays(path)


def test_attack_by_a_link_or_a_pipe_is_refused(tmp_path) -> None:
    np.save(tmp_path / "real.npy", np.zeros(2))
    (tmp_path / "link").symlink_to("real.npy")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "nothing", "."):
        with pytest.raises(OSError, match=r"."):
            read_arrays(tmp_path / name)
