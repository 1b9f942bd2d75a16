"""A condition to keep, from a user's cells to the page: no method sees it, every record has its figures."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest

import cellular_bench
from cellular_bench.benchmark.execution.preparation import prepare_split, read_truth, write_data, write_split
from cellular_bench.benchmark.execution.scoring import score, specs_for, without_batches
from cellular_bench.benchmark.plan.identity import dataset_identity
from cellular_bench.benchmark.results.contents import holds_split
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.tasks import INTEGRATION
from cellular_bench.core.errors import UndefinedError, UserError
from cellular_bench.core.outputs import Outputs
from cellular_bench.datasets import catalog, splits
from cellular_bench.workflows.reproduce import ReproduceRequest, reproduce
from cellular_bench.workflows.rescore import rescore

KEYS = {"batch_key": "donor", "label_key": "cell_type"}
#: Texts that occur nowhere else in the data.
COLUMN, VALUES, PEOPLE = "xq_stim", ("xq_control", "xq_treated"), ("xq_p1", "xq_p2", "xq_p3")


@pytest.fixture(scope="module")
def cells():
    """240 cells of two types and three donors, whose first genes respond to the condition."""
    rng = np.random.default_rng(0)
    kind, donor, stim = (rng.integers(0, k, 240) for k in (2, 3, 2))
    mean = rng.gamma(1.0, 2.0, 60) * np.exp(rng.normal(0, 1, (2, 60)))[kind]
    mean[:, :10] *= np.where(stim, 6.0, 1.0)[:, None]
    obs = pd.DataFrame(
        {
            "cell_type": np.array(["T", "B"])[kind],
            "donor": np.array(["d1", "d2", "d3"])[donor],
            "person": np.array(PEOPLE)[donor],
            COLUMN: np.array(VALUES)[stim],
        },
        index=[f"c{i}" for i in range(240)],
    )
    adata = anndata.AnnData(rng.poisson(mean).astype(np.float32), obs=obs)
    adata.obsm["X_good"] = np.log1p(adata.X)
    adata.obsm["X_none"] = rng.normal(size=(240, 5)) + 20.0 * kind[:, None]
    return adata


def prepared(cells, folder, **options):
    """Write the prepared split of all cells, and every view; return the data set and the split."""
    dataset = catalog.load(catalog.from_memory(cells, **{**KEYS, "keep": [COLUMN], **options}))
    obs = dataset.adata.obs
    (split,) = splits.make("all", label=np.asarray(obs["label"]), batch=np.asarray(obs["batch"]), options={})
    folder.mkdir()
    write_data(dataset, folder / "data.h5ad")
    write_split(split, dataset_identity(dataset), folder / "split.npz")
    views = {(features, None): folder / "views" / features for features in ("hvg", "all")}
    prepare_split(folder / "data.h5ad", folder / "split.npz", folder, views=views)
    return dataset, split


def test_no_file_of_the_views_has_a_condition_or_a_donor(cells, tmp_path):
    prepared(cells, tmp_path / "s", donor_key="person")
    files = [path for path in (tmp_path / "s" / "views").rglob("*") if path.is_file()]
    assert len(files) == 10
    secrets = [text for name in (COLUMN, *VALUES, *PEOPLE, "condition", "person") for text in _spelt(name)]
    found = {path.name: [text for text in secrets if text in path.read_bytes()] for path in files}
    assert not any(found.values()), found
    data = (tmp_path / "s" / "data.h5ad").read_bytes()
    assert all(any(text in data for text in _spelt(name)) for name in (COLUMN, *VALUES, *PEOPLE)), "a control"
    view = anndata.read_h5ad(tmp_path / "s" / "views" / "all" / "query.h5ad")
    assert list(view.obs) == ["batch"]


def _spelt(text):
    """Return a text as HDF5 and as numpy write it."""
    return text.encode(), text.encode("utf-32-le")


def test_the_truth_of_a_split_has_both(cells, tmp_path):
    dataset, split = prepared(cells, tmp_path / "s", donor_key="person")
    truth = read_truth(tmp_path / "s")
    inputs = truth.inputs()
    assert inputs["donor"].tolist() == cells.obs["person"].tolist()
    assert {name: found.tolist() for name, found in inputs["conditions"].items()} == {
        COLUMN: cells.obs[COLUMN].tolist()
    }
    obs = dataset.adata.obs
    assert holds_split(tmp_path / "s", split, obs)
    other = obs.assign(**{"donor:": obs["donor:"].cat.rename_categories({"xq_p1": "someone"})})
    assert not holds_split(tmp_path / "s", split, other)
    without = catalog.load(catalog.from_memory(cells, **KEYS)).adata.obs
    assert list(without) == ["batch", "label"]


def test_without_a_condition_there_is_no_column(cells, tmp_path):
    dataset, split = prepared(cells, tmp_path / "s", keep=[])
    inputs = read_truth(tmp_path / "s").inputs()
    assert not {"conditions", "donor"} & inputs.keys()
    assert holds_split(tmp_path / "s", split, dataset.adata.obs)
    assert "condition_kept" not in {spec.metric_id for spec in specs_for(INTEGRATION, inputs)}


def scored(cells, folder, X, **options):
    prepared(cells, folder, **options)
    truth = read_truth(folder)
    outcome = score(INTEGRATION, Outputs(obs_names=truth.obs_names, X_emb=X), truth)
    (row,) = (row for row in outcome.scores if row.metric_id == "condition_kept")
    return row, outcome.conditions


def test_a_score_and_its_figures_agree(cells, tmp_path):
    row, (kept,) = scored(cells, tmp_path / "s", cells.obsm["X_none"])
    assert row.value == kept.kept < 0.3
    assert {(one.label, one.donor) for one in kept.donors} == {
        (label, donor) for label in "BT" for donor in ("d1", "d2", "d3")
    }
    sizes = cells.obs.groupby(["cell_type", "donor"]).size()
    assert all(one.n_obs == sizes[one.label, one.donor] for one in kept.donors)
    assert all(one.auc_before > 0.9 for one in kept.donors)


def test_batches_that_determine_a_condition_leave_a_reason(cells, tmp_path):
    cells = cells.copy()
    cells.obs["sample"] = cells.obs["donor"] + cells.obs[COLUMN]
    row, (kept,) = scored(cells, tmp_path / "s", cells.obsm["X_good"], batch_key="sample", donor_key="donor")
    assert row.value is kept.kept is None
    assert row.undefined_by == "data"
    assert "each batch has one value of 'xq_stim' only" in row.reason
    assert kept.reason in row.reason
    assert kept.donors == ()


def test_cells_of_stray_batches_are_left_out_of_conditions_too():
    inputs = {"batch": np.array(["a", "a", "b"]), "donor": np.array(["p", "q", "r"])}
    inputs["conditions"] = {"x": np.array(["0", "1", "0"]), "y": UndefinedError("why")}
    found = without_batches(inputs, {"b": 1})
    assert found["donor"].tolist() == ["p", "q"]
    assert found["conditions"]["x"].tolist() == ["0", "1"]
    assert isinstance(found["conditions"]["y"], UndefinedError)


def test_a_graph_has_no_figures_but_a_reason():
    inputs = {"conditions": {"stim": np.array(["a", "b"])}, "X_pre": np.eye(2)}
    (kept,) = INTEGRATION.details(inputs)["conditions"]
    assert (kept.kept, kept.donors, kept.reason) == (None, (), "there is no embedding")
    assert not INTEGRATION.details({})


@pytest.fixture(scope="module")
def results(cells, tmp_path_factory):
    out = tmp_path_factory.mktemp("keep")
    return cellular_bench.run(
        adata=cells, keep=COLUMN, donor_key="person", tasks="integration", split="all",
        methods="unintegrated", out=out / "r", jobs=1, quiet=True, **KEYS,
    )  # fmt: skip


def test_every_record_has_the_figures_and_the_page_shows_them(results):
    (run,) = results.records
    (kept,) = run.conditions
    assert run.value("condition_kept") == kept.kept > 0.95
    assert {one.donor for one in kept.donors} == set(PEOPLE)
    assert (run.dataset.keep, run.dataset.donor_key) == ((COLUMN,), "person")
    page = (results.folder / "leaderboard.html").read_text("utf-8")
    assert "Kept of xq_stim, by label and donor" in page
    suite = json.loads((results.folder / "suite.json").read_text("utf-8"))
    assert "xq_treated" not in json.dumps(suite)


def test_a_record_can_be_scored_again(results):
    (run,) = results.records
    store = Store.open(results.folder)
    assert rescore(store, run) == run
    assert rescore(store, run.model_copy(update={"conditions": ()})) == run


@pytest.mark.slow
def test_a_record_is_reproduced_without_naming_the_columns(results, cells):
    (run,) = results.records
    file = Store.open(results.folder).run_folder(run.run_id) / "record.json"
    again = reproduce(ReproduceRequest.of(record_file=file, adata=cells, **KEYS))
    assert again.differences == []
    assert again.record.conditions == run.conditions


def test_embeddings_made_elsewhere_are_scored_too(cells):
    options = {"obsm": ["X_good", "X_none"], "pre": "X_good", "metrics": "condition_kept"}
    found = cellular_bench.score(cells, keep=COLUMN, **KEYS, **options).set_index("method_id").value
    assert found["X_good"] == 1.0
    assert found["X_none"] < 0.3
    people = cellular_bench.score(cells, keep=COLUMN, label_key="cell_type", donor_key="person", **options)
    assert people.value.tolist() == pytest.approx(found.tolist()), "donors under other names"
    itself = {**KEYS, "batch_key": COLUMN, "donor_key": "person"}
    reasons = cellular_bench.score(cells, keep=COLUMN, **itself, **options).reason
    assert all("each batch has one value" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"keep": COLUMN, "label_key": "cell_type"}, "--keep needs --donor-key, or --batch-key"),
        ({"donor_key": "person", **KEYS}, "--donor-key goes with --keep"),
        ({"keep": "stimm", **KEYS}, "Unknown condition key 'stimm'"),
    ],
)
def test_a_score_of_nothing_is_refused(cells, options, problem):
    with pytest.raises(UserError, match=problem):
        cellular_bench.score(cells, obsm="X_good", pre="X_good", metrics="condition_kept", **options)


def test_columns_without_cells_are_refused(tmp_path):
    with pytest.raises(UserError, match="--keep and --donor-key describe --adata, which is missing"):
        cellular_bench.run(datasets="simulated_small", keep="stim", out=tmp_path / "r", quiet=True)
