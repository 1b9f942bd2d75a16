"""Attacks on data and splits in a folder: altered, they are noticed, and made again or refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cellular_bench.benchmark.results.contents import check_data, check_split, holds_data, holds_split
from cellular_bench.benchmark.results.merge import merge
from cellular_bench.benchmark.results.store import Store
from cellular_bench.core.errors import UserError
from cellular_bench.core.npz import read_stored, write_stored
from cellular_bench.datasets import catalog
from cellular_bench.workflows.rescore import rescore_folder

KFOLD = {"kind": "kfold", "n_splits": 2}


@pytest.fixture(scope="module")
def plan(planned: Callable[..., Any]) -> Any:
    return planned("healthy", split=KFOLD)


@pytest.fixture(scope="module")
def original(plan: Any, carried_out: Callable[..., Store], tmp_path_factory: pytest.TempPathFactory) -> Store:
    return carried_out(plan, tmp_path_factory.mktemp("contents") / "out")


@pytest.fixture
def copy(original: Store, tmp_path: Path) -> Store:
    shutil.copytree(original.root, tmp_path / "copy")
    return Store.open(tmp_path / "copy")


def alter(path: Path, name: str) -> None:
    arrays = read_stored(path)
    arrays[name] = arrays[name][::-1]
    write_stored(path, arrays)


def of_first(store: Store) -> Any:
    return next(store.records())


def test_what_was_written_is_what_it_should_be(original: Store, plan: Any, small: dict[str, Any]) -> None:
    data = small["simulated_small"].adata
    for record in original.records():
        check_split(original, record)
        check_data(original, record.dataset)
        split = plan.splits[record.dataset.digest, record.split.digest]
        assert holds_split(original.split_folder(record.dataset, record.split), split, data.obs)
    assert holds_data(original.data_file(record.dataset), data)


@pytest.mark.parametrize("name", ["train_obs", "test_obs"])
def test_other_cells_are_refused_by_what_reads_them(copy: Store, tmp_path: Path, name: str) -> None:
    record = of_first(copy)
    alter(copy.split_folder(record.dataset, record.split) / "cells.npz", name)
    with pytest.raises(UserError, match=r"does not hold the cells of split 'kfold-2-42\.1'"):
        check_split(copy, record)
    assert rescore_folder(copy.root).n_failed == 1
    merged = merge([copy], tmp_path / "merged")
    assert len(merged.refused) == merged.n_records == 1


@pytest.mark.parametrize(
    ("file", "name"), [("cells.npz", "test_obs"), ("truth.npz", "label"), ("truth.npz", "obs_names")]
)
def test_an_altered_split_is_prepared_again_for_the_next_run(
    copy: Store, plan: Any, carried_out: Callable[..., Store], file: str, name: str
) -> None:
    record = of_first(copy)
    path = copy.split_folder(record.dataset, record.split) / file
    before = read_stored(path)[name]
    alter(path, name)
    assert not np.array_equal(read_stored(path)[name], before)
    copy.forget([record.run_id])
    carried_out(plan, copy.root)
    assert np.array_equal(read_stored(path)[name], before)
    assert copy.record(record.run_id).scores == record.scores


@pytest.mark.parametrize("place", ["X/data", "layers/counts/data", "obs/label/codes", "obs/_index"])
def test_altered_data_are_refused_and_written_again(
    copy: Store, plan: Any, small: dict[str, Any], carried_out: Callable[..., Store], place: str
) -> None:
    record = of_first(copy)
    path = copy.data_file(record.dataset)
    size = path.stat().st_size
    with h5py.File(path, "r+") as file:
        values = file[place][:]
        file[place][...] = values[::-1]
    assert path.stat().st_size == size
    with pytest.raises(UserError, match="does not hold the data that its name says"):
        check_data(copy, record.dataset)
    carried_out(plan, copy.root)
    assert holds_data(path, small["simulated_small"].adata)


def test_data_of_a_recipe_have_their_digest(tmp_path: Path) -> None:
    from cellular_bench.benchmark.execution.preparation import write_data
    from cellular_bench.benchmark.plan.identity import dataset_identity

    whole = catalog.load(catalog.specs()["simulated_small"])
    made = catalog.prepared(whole, "study_annotated")
    store = Store.claim(tmp_path / "out")
    for dataset in (made, catalog.subsampled(made, 100), catalog.subsampled(whole, 100)):
        identity = dataset_identity(dataset)
        write_data(dataset, store.data_file(identity))
        check_data(store, identity)
    other = dataset_identity(made).model_copy(update={"digest": "0" * 64})
    write_data(made, store.data_file(other))
    with pytest.raises(UserError, match="does not hold the data"):
        check_data(store, other)


@pytest.mark.parametrize("kind", ["label_noise", "fewer_cells", "fewer_genes"])
def test_splits_under_stress_are_known_by_their_digest(
    planned: Callable[..., Any], carried_out: Callable[..., Store], tmp_path: Path, kind: str
) -> None:
    stress = {"kind": kind, "levels": [0.5]}
    store = carried_out(planned("healthy", split={**KFOLD, "stress": stress}), tmp_path / "out")
    records = list(store.records())
    assert {record.split.stress.kind for record in records if record.split.stress} == {kind}
    for record in records:
        check_split(store, record)
