"""Your own cells without labels, and under several labels: what the command line does with either."""

import anndata
import numpy as np
import pytest

import cellular_bench
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.execution.views import Cells, views
from cellular_bench.benchmark.registry import methods
from cellular_bench.benchmark.results.store import Store
from cellular_bench.core.errors import UserError
from cellular_bench.core.keys import LABELLING
from cellular_bench.core.labels import NO_LABELS
from cellular_bench.datasets import catalog, splits
from cellular_bench.datasets.contract import conform, digest
from cellular_bench.datasets.simulator import simulate
from cellular_bench.metrics import METRICS
from cellular_bench.metrics.spec import reads_labels
from cellular_bench.workflows.requests import RunRequest
from cellular_bench.workflows.rescore import rescore_folder

QUICK = ("--no-figures", "--jobs", "2", "--no-sandbox", "--task", "integration")


@pytest.fixture(scope="module")
def adata():
    """160 cells of four types in two batches, with a coarser labelling and one that names the batches."""
    made = simulate(n_obs=160, n_vars=100, n_labels=4, n_batches=2, batch_strength=0.4, seed=0)
    made.obs = made.obs.rename(columns={"label": "cell_type", "batch": "donor"})
    made.obs["coarse"] = np.where(made.obs.cell_type.isin(["type1", "type2"]), "x", "y")
    made.obs["same"] = "of " + made.obs.donor.astype(str)
    made.obs["gaps"] = np.where(np.arange(160) < 3, "", "a")
    return made


@pytest.fixture(scope="module")
def file(adata, tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "my.h5ad"
    adata.write_h5ad(path)
    return path


def of(adata, **keys):
    given = {"label_key": None, "batch_key": "donor", "counts_layer": "X"} | keys
    return conform(adata, source="cells", **given)


# Without labels


@pytest.fixture(scope="module")
def unlabelled(run_benchmark, file, tmp_path_factory):
    """A run without a label key: two methods, and one that learns from labels."""
    out = tmp_path_factory.mktemp("unlabelled") / "out"
    given = ("--adata", file, "--batch-key", "donor", "--method", "pca,unintegrated,scanvi", "--out", out)
    return run_benchmark("run", *given, *QUICK), Store.open(out)


def test_cells_without_labels_are_integrated(unlabelled):
    done, store = unlabelled
    assert done.returncode == 0, done.stderr
    records = {record.method.method_id: record for record in store.records()}
    assert {name: record.status for name, record in records.items()} == {
        "pca": "ok", "unintegrated": "ok", "scanvi": "not_applicable",
    }  # fmt: skip
    assert records["scanvi"].reason == "Learns from labels; this data set has none."
    assert {record.split.kind for record in records.values()} == {"all"}
    assert not records["pca"].dataset.is_labelled


def test_methods_are_ranked_by_half_mixing_and_half_structure_kept(unlabelled):
    _, store = unlabelled
    (board,) = build_boards(store.records(), METRICS.values())
    assert board.rule.name == "label_free"
    rows = {row.method.method_id: row for row in board.rows}
    assert sorted(row.rank for row in rows.values() if row.rank) == [1, 2]
    for record in store.records():
        if record.status == "ok":
            mixing = np.mean([record.value(name) for name in ("ilisi", "kbet", "pcr_comparison")])
            kept = min(1.0, max(0.0, record.value("state_kept_clusters")))
            assert rows[record.method.method_id].overall.mean == pytest.approx((mixing + kept) / 2)
            assert {found.by for found in record.per_group} == {"batch"}, "there are no labels to group by"


def test_metrics_that_read_labels_are_undefined_by_the_data(unlabelled):
    _, store = unlabelled
    (record,) = [record for record in store.records() if record.method.method_id == "pca"]
    scores = {score.metric_id: score for score in record.scores}
    for metric_id, score in scores.items():
        if reads_labels(METRICS[metric_id]):
            assert (score.value, score.undefined_by, score.reason) == (None, "data", NO_LABELS), metric_id
    assert all(scores[name].value is not None for name in ("ilisi", "kbet", "pcr_comparison"))
    assert {"clisi", "leiden_nmi", "kbet_per_label"} <= scores.keys(), "they are listed with the reason"


def test_the_board_says_what_it_is_worth_and_what_labels_would_add(unlabelled):
    _, store = unlabelled
    text = (store.root / "leaderboard.md").read_text("utf-8")
    assert "· no labels ·" in text
    assert "Exploratory: these cells have no labels." in text
    assert "Two cautions:" in text
    assert "Labels would add Leiden NMI," in text
    assert "(iLISI, PCR comparison, kBET" in text
    assert "Exploratory" in (store.root / "leaderboard.html").read_text("utf-8")


def test_every_label_is_empty_and_the_digest_another(adata):
    bare, warnings = of(adata)
    labelled, _ = of(adata, label_key="cell_type")
    assert set(bare.obs["label"].astype(str)) == {""}
    assert digest(bare) != digest(labelled)
    assert any(text.startswith("There are no labels:") for text in warnings)


def test_a_split_into_folds_needs_no_labels(adata):
    obs = of(adata)[0].obs
    folds = splits.make("kfold", label=obs["label"], batch=obs["batch"], options={"n_splits": 4})
    assert [len(fold.test_obs) for fold in folds] == [40] * 4
    assert sorted(np.concatenate([fold.test_obs for fold in folds]).tolist()) == list(range(160))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--task", "annotation"), "has no labels to learn and to score"),
        (("--task", "novelty"), "has no labels to learn and to score"),
        (("--split", "unseen-label"), "Split 'unseen_label' chooses cells by their labels"),
        (("--split", "private-label"), "Split 'private_label' chooses cells by their labels"),
        (("--stress", "label_noise=0,0.1"), "Stress 'label_noise' chooses cells by their labels"),
        (("--stress", "rare_types=1,0.5"), "Stress 'rare_types' chooses cells by their labels"),
        (("--cluster-labels",), "--cluster-labels are compared with the labels of your cells"),
        (("--batch-key", "dnor"), "Unknown batch key 'dnor'. Did you mean 'donor'?"),
    ],
)
def test_what_needs_labels_is_refused_with_the_reason(run_benchmark, file, tmp_path, options, message):
    given = ("--adata", file, "--batch-key", "donor", "--out", tmp_path / "out", "--no-figures")
    task = () if "--task" in options else ("--task", "integration")
    done = run_benchmark("run", *given, *task, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_one_batch_without_labels_cannot_be_integrated(run_benchmark, file, tmp_path):
    done = run_benchmark("run", "--adata", file, "--out", tmp_path / "out", *QUICK)
    assert done.returncode == 2
    assert "one batch and no labels; integration needs two batches or more" in done.stderr


def test_validate_accepts_cells_without_labels(run_benchmark, file):
    done = run_benchmark("datasets", "validate", file, "--batch-key", "donor")
    assert done.returncode == 0
    assert "no labels, 2 batches" in done.stdout


# Several labels


@pytest.fixture(scope="module")
def relabelled(run_benchmark, file, tmp_path_factory):
    """The same cells under two label columns, then again with clusters."""
    out = tmp_path_factory.mktemp("relabelled") / "out"
    given = ("--adata", file, "--batch-key", "donor", "--method", "pca,unintegrated", "--out", out)
    keys = ("--label-key", "cell_type", "--label-key", "coarse")
    all_cells = ("--split", "all")
    first = run_benchmark("run", *given, *keys, *QUICK, *all_cells)
    before = {record.run_id: record for record in Store.open(out).records()}
    second = run_benchmark("run", *given, *keys, "--cluster-labels", *QUICK, *all_cells)
    return first, before, second, Store.open(out)


def test_another_labelling_costs_no_run(relabelled):
    first, before, second, store = relabelled
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "2 runs, 0 to do" in second.stdout
    for record in store.records():
        old = before[record.run_id]
        assert [one.labelling for one in old.relabelled] == ["coarse"]
        assert [one.labelling for one in record.relabelled] == ["coarse", "clusters of each batch"]
        assert record.relabelled[0] == old.relabelled[0]
        same = {"relabelled": ()}
        assert record.model_copy(update=same) == old.model_copy(update=same)


def test_scores_under_other_labels_are_those_of_a_run_with_these_labels(
    relabelled, run_benchmark, file, tmp_path
):
    *_, store = relabelled
    given = ("--adata", file, "--batch-key", "donor", "--label-key", "coarse", "--split", "all")
    done = run_benchmark("run", *given, "--method", "pca,unintegrated", "--out", tmp_path / "out", *QUICK)
    assert done.returncode == 0, done.stderr
    own = {record.method.method_id: record.values for record in Store.open(tmp_path / "out").records()}
    for record in store.records():
        coarse = record.relabelled[0]
        assert coarse.n_labels == 2
        found = {score.metric_id: score.value for score in coarse.scores if score.value is not None}
        assert {"clisi", "kbet_per_label", "bras"} <= found.keys()
        assert found == pytest.approx({name: own[record.method.method_id][name] for name in found}, abs=1e-6)


def test_scores_that_read_no_label_are_not_repeated(relabelled):
    *_, store = relabelled
    for record in store.records():
        known = {score.metric_id for score in record.scores}
        for one in record.relabelled:
            ids = {score.metric_id for score in one.scores}
            assert ids <= known
            assert ids.isdisjoint({"ilisi", "kbet", "pcr_comparison"})


def test_the_report_has_the_rankings_side_by_side(relabelled):
    *_, store = relabelled
    text = (store.root / "leaderboard.md").read_text("utf-8")
    assert "### Under other labels" in text
    assert "Overall, coarse (2)" in text
    assert "Rank, clusters of each batch" in text
    assert "Kendall's tau" in text


def test_rescore_computes_them_again(relabelled):
    *_, store = relabelled
    (first, *_) = store.records()
    broken = tuple(
        one.model_copy(
            update={"scores": tuple(s.model_copy(update={"value": 0.123}) for s in one.scores if s.value)}
        )
        for one in first.relabelled
    )
    store.write(first.model_copy(update={"relabelled": broken}))
    assert rescore_folder(store.root).n_changed == 1
    assert store.record(first.run_id) == first


def test_no_method_sees_other_labels(adata):
    made, _ = of(adata, label_key="cell_type", further_labels=["coarse"])
    assert LABELLING + "coarse" in made.obs
    cells = Cells(
        train_obs=np.arange(80), test_obs=np.arange(80, 160), highly_variable=np.ones(made.n_vars, dtype=bool)
    )
    for name in ("pca", "scanvi", "perfect_labels"):
        for view in views(made, cells, methods()[name].spec):
            assert set(view.obs) <= {"batch", "label"}
            assert "x" not in view.obs.astype(str).to_numpy()


def test_other_labels_do_not_change_what_a_run_is(adata):
    plain, _ = of(adata, label_key="cell_type")
    more, _ = of(adata, label_key="cell_type", further_labels=["coarse"])
    assert digest(plain) == digest(more)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("cell_type", "carse"), "Unknown label key 'carse'. Did you mean 'coarse'?"),
        (("celltype", "coarse"), "Unknown label key 'celltype'. Did you mean 'cell_type'?"),
        (("donor",), "Batch key and label key are the same column, 'donor'."),
        (("cell_type", "donor"), "obs['donor'] is the column of the batches"),
        (("cell_type", "cell_type"), "obs['cell_type'] is the column of the labels"),
        (("cell_type", "gaps"), "3 cells ('cell1', 'cell2', 'cell3') have no label in obs['gaps']"),
    ],
)
def test_columns_that_cannot_be_labels(run_benchmark, file, tmp_path, keys, message):
    given = [word for key in keys for word in ("--label-key", key)]
    done = run_benchmark(
        "run", "--adata", file, "--batch-key", "donor", *given, *QUICK, "--out", tmp_path / "out"
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("key", "is_noted"), [("same", True), ("cell_type", False), ("coarse", False)])
def test_labels_that_divide_the_cells_as_the_batches_do_are_noted(adata, key, is_noted):
    _, warnings = of(adata, label_key=key)
    assert any("divide the cells into the same groups" in text for text in warnings) == is_noted


def test_other_labels_of_a_task_that_names_labels_are_refused(run_benchmark, file, tmp_path):
    given = ("--adata", file, "--batch-key", "donor", "--label-key", "cell_type", "--label-key", "coarse")
    done = run_benchmark("run", *given, "--task", "annotation", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "Only embeddings are scored under further labels" in done.stderr


def test_the_first_of_several_label_keys_is_the_main_one():
    request = RunRequest.of(adata=anndata.AnnData(), label_key=["a", "b", "c"])
    assert (request.label_key, request.further_labels) == ("a", ("b", "c"))
    assert RunRequest.of(label_key="a").further_labels == ()
    assert RunRequest.of(label_key=()).label_key is None


def test_python_takes_the_same_requests(adata, tmp_path):
    with pytest.raises(UserError, match="obs\\['donor'\\] is the column of the batches"):
        cellular_bench.run(
            adata=adata, batch_key="donor", label_key=["cell_type", "donor"], tasks="integration",
            out=tmp_path / "out", quiet=True,
        )  # fmt: skip


def test_a_manifest_may_name_further_labels(adata, tmp_path):
    spec = catalog.from_memory(adata, batch_key="donor", label_key="cell_type", further_labels=("coarse",))
    assert LABELLING + "coarse" in catalog.load(spec).adata.obs
    assert LABELLING + "coarse" in catalog.subsampled(catalog.load(spec), 50).adata.obs
    assert LABELLING + "coarse" in catalog.prepared(catalog.load(spec), "study_annotated").adata.obs
