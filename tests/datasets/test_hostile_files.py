"""Attacks through files of cells: values of other files, circles of links, and indices that lead anywhere."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from cellular_bench.core.errors import BenchError, DataError
from cellular_bench.datasets import catalog
from cellular_bench.datasets.h5ad import read_h5ad
from cellular_bench.datasets.preparation.readers import read

N_OBS, N_VARS = 20, 10


def cells() -> AnnData:
    values = np.random.default_rng(0).poisson(1.0, (N_OBS, N_VARS)).astype(np.float32) + np.eye(N_OBS, N_VARS)
    counts = sparse.csr_matrix(values, dtype=np.float32)
    obs = pd.DataFrame(
        {"label": ["a", "b"] * 10, "batch": ["x"] * 10 + ["y"] * 10},
        index=[f"cell{i}" for i in range(N_OBS)],
    )
    adata = AnnData(counts, obs=obs)
    adata.layers["counts"] = counts.copy()
    adata.raw = adata.copy()
    adata.obsm["other"] = counts.copy()
    adata.obsp["links"] = sparse.identity(N_OBS, format="csr")
    return adata


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "cells.h5ad"
    cells().write_h5ad(path)
    return path


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path / "cells.h5ad"))


def problems(path: Path) -> list[str]:
    return catalog.validate(path, batch_key="batch", label_key="label")


def test_the_sound_file_has_no_problem(sound: Path) -> None:
    assert problems(sound) == []


def _external_link(file: h5py.File, secret: Path) -> None:
    file["obs/stolen"] = h5py.ExternalLink(str(secret), "/obs/label")


def _external_storage(file: h5py.File, secret: Path) -> None:
    file.create_dataset("uns/stolen", shape=(100,), dtype="u1", external=[(str(secret), 0, 100)])


def _virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout(shape=(5,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(secret), "X/data", shape=(5,))
    file.create_virtual_dataset("obsm/stolen", layout)


OTHER_FILES = {
    _external_link: "obs/stolen is a link to another file",
    _external_storage: "The values of uns/stolen lie in other files",
    _virtual: "The values of obsm/stolen lie in other files",
}


@pytest.mark.parametrize("steal", OTHER_FILES)
def test_values_of_other_files_are_refused(
    sound: Path, copy: Path, steal: Callable[[h5py.File, Path], None]
) -> None:
    with h5py.File(copy, "r+") as file:
        steal(file, sound)
    (problem,) = problems(copy)
    assert OTHER_FILES[steal] in problem


@pytest.mark.parametrize("steal", OTHER_FILES)
@pytest.mark.parametrize("name", ["matrix.loom", "matrix.h5", "cells.h5mu"])
def test_other_formats_refuse_them_too(
    sound: Path, tmp_path: Path, name: str, steal: Callable[[h5py.File, Path], None]
) -> None:
    with h5py.File(tmp_path / name, "w") as file:
        for group in ("row_attrs", "col_attrs", "obs", "obsm", "uns", "var"):
            file.create_group(group)
        file["matrix"] = np.ones((3, 3))
        steal(file, sound)
    with pytest.raises(DataError, match="other file"):
        read(tmp_path / name)


def _to_parent(file: h5py.File) -> None:
    file["uns/again"] = h5py.SoftLink("/uns")


def _hard(file: h5py.File) -> None:
    file["uns/inner"] = file["uns"]


def _to_itself(file: h5py.File) -> None:
    file["uns/again"] = h5py.SoftLink("/uns/again")


def _many_ways(file: h5py.File) -> None:
    """Two links per level: twice as many paths at each."""
    for level in range(40):
        for side in "ab":
            file.require_group(f"uns/g{level}")[side] = h5py.SoftLink(f"/uns/g{level + 1}")
    file.create_group("uns/g40")


@pytest.mark.parametrize("link", [_to_parent, _hard, _to_itself, _many_ways])
def test_links_in_circles_end(copy: Path, link: Callable[[h5py.File], None]) -> None:
    with h5py.File(copy, "r+") as file:
        link(file)
    (problem,) = problems(copy)
    assert "link" in problem


def test_links_within_the_file_are_followed(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        file["obsm/same"] = h5py.SoftLink("/obsm/other")
        file["uns/nowhere"] = h5py.SoftLink("/uns/nothing")
    assert problems(copy) == []
    assert "same" in read_h5ad(copy).obsm


PLACES = {"X": "X", "layers/counts": "layers['counts']", "raw/X": "raw", "obsm/other": "obsm['other']",
          "obsp/links": "obsp['links']"}  # fmt: skip
DAMAGES = {
    "indices": {3: 10**6, 2: -1, 0: N_OBS},
    "indptr": {5: 0, -1: 10**6, 3: -4, 0: 1},
}


@pytest.mark.parametrize(
    ("array", "at", "value"), [(name, *hit) for name, hits in DAMAGES.items() for hit in hits.items()]
)
@pytest.mark.parametrize("place", PLACES)
def test_indices_that_lead_elsewhere_are_refused(
    copy: Path, place: str, array: str, at: int, value: int
) -> None:
    with h5py.File(copy, "r+") as file:
        file[f"{place}/{array}"][at] = value
    assert any(problem.startswith(f"{PLACES[place]} is damaged: its ind") for problem in problems(copy))


def _end_of_reading(path: Path) -> int | str:
    """Read a file in another process; return its exit code, or the error that is none of ours."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            catalog.load(catalog.from_h5ad(path, batch_key="batch", label_key="label"))
            code = 0
        except BenchError:
            code = 0
        except BaseException as error:
            os.write(writer, repr(error).encode()[:4096])
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        error = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return error or os.waitstatus_to_exitcode(status)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_any_bytes_changed_never_give_another_error(
    sound: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Law: a damaged file is used, or refused with a reason, unless the HDF5 library itself crashes on it."""
    content = bytearray(sound.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "cells.h5ad"
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
    assert _end_of_reading(path) in (0, -signal.SIGSEGV, -signal.SIGABRT)


@pytest.mark.parametrize("at", range(0, 800, 8))
def test_damage_of_the_head_of_a_file_is_refused_or_harmless(sound: Path, tmp_path: Path, at: int) -> None:
    content = bytearray(sound.read_bytes())
    content[at] ^= 0xFF
    (tmp_path / "cells.h5ad").write_bytes(content)
    assert _end_of_reading(tmp_path / "cells.h5ad") in (0, -signal.SIGSEGV, -signal.SIGABRT)


def test_a_matrix_of_10x_with_bad_indices_is_refused(tmp_path: Path) -> None:
    matrix = sparse.csc_matrix(np.eye(4, dtype=np.int32))
    with h5py.File(tmp_path / "cells.h5", "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indptr"):
            group[name] = getattr(matrix, name)
        group["indices"] = np.array([0, 1, 10**6, 3])
        group["shape"] = [4, 4]
        group["barcodes"] = [f"cell{i}".encode() for i in range(4)]
        for name in ("id", "name", "feature_type", "genome"):
            group[f"features/{name}"] = [f"{name}{i}".encode() for i in range(4)]
    with pytest.raises(DataError, match="matrix is damaged: its indices go from 0 to 1000000"):
        read(tmp_path / "cells.h5")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/hostname")])
def test_a_zarr_store_of_links_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    pytest.importorskip("zarr")
    store = tmp_path / "cells.zarr"
    cells().write_zarr(store)
    make(store / "X" / "more")
    with pytest.raises(DataError, match="X/more is a link, a pipe or a device"):
        read_h5ad(store)
