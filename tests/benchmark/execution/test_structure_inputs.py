"""The structure of the scored cells is computed once per split, kept beside it, and given to every method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import anndata
import numpy as np
import pytest

from cellular_bench.benchmark.execution import preparation, scoring
from cellular_bench.benchmark.results.store import CELLS, SPLIT, TRUTH, Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.benchmark.tasks import INTEGRATION, TASKS, TaskInputs
from cellular_bench.core import keys
from cellular_bench.core.errors import UndefinedError, UserError
from cellular_bench.core.outputs import Outputs
from cellular_bench.metrics import METRICS, cell_depth, profiles, structure_reference
from cellular_bench.metrics.structure.reference import STRUCTURE_METRICS
from cellular_bench.workflows import rescore as rescoring

STRUCTURED = replace(INTEGRATION, weights={"structure": 1.0}, rules={})
NAME = "structure.npz"
WANTED = {NAME: ("integration", "standard")}


@dataclass(frozen=True)
class Prepared:
    """A data file and the folder of its split."""

    data: Path
    folder: Path
    split_file: Path

    def prepare(self, inputs: Mapping[str, object] = MappingProxyType(WANTED)) -> dict[str, int]:
        """Prepare the split, and return when its files were written."""
        preparation.prepare_split(self.data, self.split_file, self.folder, inputs=inputs)
        return {path.name: path.stat().st_mtime_ns for path in self.folder.glob("*.npz")}


@pytest.fixture(scope="module")
def plan_of_pca(planned):
    return planned("pca", task="integration")


@pytest.fixture
def prepared(tmp_path: Path, small: dict, plan_of_pca) -> Prepared:
    (run,) = plan_of_pca.runs
    folder = tmp_path / "split"
    folder.mkdir()
    found = Prepared(tmp_path / "data.h5ad", folder, tmp_path / SPLIT)
    preparation.write_data(small["simulated_small"], found.data)
    (split,) = plan_of_pca.splits.values()
    preparation.write_split(split, run.dataset, found.split_file)
    return found


def read(folder: Path, profile: str = "standard") -> object:
    return preparation.read_inputs(INTEGRATION, folder, study_metrics=False, profile=profile)["structure"]


def test_it_is_that_of_the_scored_cells(prepared: Prepared, small: dict) -> None:
    prepared.prepare()
    cells = preparation.read_cells(prepared.folder / CELLS)
    adata = small["simulated_small"].adata[cells.test_obs]
    expected = structure_reference(
        adata.X,
        adata.obs[keys.BATCH],
        adata.obs[keys.LABEL],
        highly_variable=cells.highly_variable,
        depth=cell_depth(adata.layers[keys.COUNTS], are_counts=True),
    )
    assert repr(read(prepared.folder)) == repr(expected)


def test_what_is_there_stays_and_what_is_missing_or_damaged_is_added(prepared: Prepared) -> None:
    without = prepared.prepare({})
    assert NAME not in without
    whole = prepared.prepare()
    assert whole[TRUTH] == without[TRUTH]
    assert prepared.prepare()[NAME] == whole[NAME]
    content = (prepared.folder / NAME).read_bytes()
    (prepared.folder / NAME).write_bytes(content[: len(content) // 2])
    assert not preparation.is_prepared(prepared.folder, WANTED)
    again = prepared.prepare()
    assert (again[TRUTH], again[CELLS]) == (whole[TRUTH], whole[CELLS])
    assert (prepared.folder / NAME).read_bytes() == content


def test_metrics_of_structure_score_with_it(prepared: Prepared) -> None:
    prepared.prepare()
    truth = preparation.read_truth(prepared.folder)
    given = preparation.read_inputs(STRUCTURED, prepared.folder, study_metrics=False)
    outputs = Outputs(obs_names=truth.obs_names, X_emb=truth.X_pre)
    found = {
        score.metric_id: score for score in scoring.score(STRUCTURED, outputs, truth, given=given).scores
    }
    assert set(STRUCTURE_METRICS) <= found.keys()
    assert found["spread_kept"].value > 0.9
    assert found["neighbours_kept"].value > 0.5


def test_a_profile_for_many_cells_takes_a_sample(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    few = profiles.Profile(name="fast", exact_cells=100, graph_cells=150)
    monkeypatch.setattr(profiles, "PROFILES", {**profiles.PROFILES, "fast": few})
    (name,) = INTEGRATION.input_files(study_metrics=False, profile="fast")
    assert name == "structure-fast.npz"
    prepared.prepare({name: ("integration", "fast"), **WANTED})
    sample, every = read(prepared.folder, "fast"), read(prepared.folder)
    assert every.cells is None
    assert 150 <= len(sample.cells) < sample.n_obs == every.n_obs
    assert [one.quantity for one in sample.shortcuts if one.figures.get("n_sampled")] == ["cells"]


def test_without_a_structure_there_is_a_reason(prepared: Prepared) -> None:
    adata = anndata.read_h5ad(prepared.data)
    adata.var[keys.HIGHLY_VARIABLE] = False
    (inputs,) = (one for one in INTEGRATION.inputs if "structure" in one.inputs)
    stored = inputs.made(adata, "standard")
    np.savez(prepared.folder / NAME, allow_pickle=False, **stored)
    reason = read(prepared.folder)
    assert isinstance(reason, UndefinedError)
    assert "highly variable genes" in str(reason)
    assert not reason.by_output


def test_arrays_of_something_else_are_refused(prepared: Prepared) -> None:
    prepared.prepare()
    with np.load(prepared.folder / NAME) as file:
        arrays = dict(file)
    n_obs = len(arrays["batch"])
    changes: dict[str, Callable[[dict], object]] = {
        "one is missing": lambda found: found.pop("neighbours"),
        "one more": lambda found: found.update(other=np.zeros(3)),
        "beyond the cells": lambda found: found["neighbours"].__setitem__(0, n_obs),
        "another length": lambda found: found.update(batch=found["batch"][1:]),
        "another kind": lambda found: found.update(label=found["label"].astype(float)),
        "groups that overlap": lambda found: found["cluster_groups.starts"].__setitem__(1, 0),
        "no scores": lambda found: found.update({"cluster_groups.scores": np.zeros((n_obs, 2))}),
        "half of the labels": lambda found: found.pop("consensus"),
        "a type without cells": lambda found: found["types"].__setitem__(-1, n_obs - 1),
    }
    for name, change in changes.items():
        other = {key: array.copy() for key, array in arrays.items()}
        change(other)
        np.savez(prepared.folder / NAME, allow_pickle=False, **other)
        with pytest.raises(UserError, match="the arrays of the structure"):
            read(prepared.folder)
            pytest.fail(name)


@pytest.fixture
def rescored(prepared: Prepared, tmp_path: Path, plan_of_pca, monkeypatch: pytest.MonkeyPatch):
    """A folder with a run of an earlier version, without its structure; returns the store and the run."""
    store = Store.create(tmp_path / "old", plan_of_pca.suite)
    (run,) = plan_of_pca.runs
    data, folder = store.data_file(run.dataset), store.split_folder(run.dataset, run.split)
    for path in (data, folder):
        path.parent.mkdir(parents=True, exist_ok=True)
    prepared.prepare({})
    prepared.folder.rename(folder)
    prepared.data.rename(data)
    monkeypatch.setitem(TASKS, "integration", STRUCTURED)
    return store, run, folder, data


def inputs_of(store: Store, run: object, scores: tuple = ()) -> dict:
    fields = {"study_metrics": False, "scores": scores}
    record = RunRecord.model_construct(**{**dict(run), **fields})
    return rescoring._inputs(store, record, STRUCTURED, "standard")


def test_a_folder_without_it_is_completed_from_its_data(rescored) -> None:
    store, run, folder, _ = rescored
    found = inputs_of(store, run)["structure"]
    assert repr(found) == repr(read(folder))


def test_without_data_there_is_a_reason_unless_a_value_rests_on_them(rescored) -> None:
    store, run, folder, data = rescored
    data.unlink()
    reason = inputs_of(store, run)["structure"]
    assert "needs the data of the run" in str(reason)
    assert not (folder / NAME).exists()
    value = scoring.as_score(METRICS["state_kept"], 0.5)
    with pytest.raises(UserError, match=r"structure\.npz is missing or damaged"):
        inputs_of(store, run, (value,))


def test_inputs_are_made_and_read_together_or_one_by_one() -> None:
    def make(adata: object, profile: str) -> dict[str, object]:
        return {"sum": np.array(profile), "n": np.array(3)}

    inputs = TaskInputs(
        file="both",
        arrays={"alone": lambda adata: np.array(adata)},
        make=make,
        read=lambda arrays: {"together": (str(arrays["sum"]), int(arrays["n"]))},
        names=("together",),
    )
    assert inputs.inputs == ("alone", "together")
    assert inputs.given(inputs.made(5, "fast")) == {"alone": np.array(5), "together": ("fast", 3)}
    with pytest.raises(ValueError, match="both make and read"):
        TaskInputs(file="half", make=make)
