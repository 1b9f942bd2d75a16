"""The Python interface: the same runs and numbers as the command line, as objects and tables."""

import linecache
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cellular_bench
from cellular_bench import Results, UserError
from cellular_bench.benchmark import registry
from cellular_bench.benchmark.schema.record_files import read_record
from cellular_bench.datasets.simulator import simulate
from cellular_bench.notebook_code import plugin_source, write_plugin

CELL = '''
import numpy as np
from cellular_bench import MethodSpec, Prediction

WORD = "nearest"
OFFSETS = (0.0, 0.0)


def distances(X, means):
    """Square distances of every cell to every mean."""
    return ((X[:, None, :] - means[None]) ** 2).sum(axis=2)


class NearestMean:
    """Name every cell after the nearest mean of a label."""

    spec = MethodSpec(
        method_id="notebook_mean", name=WORD, tasks=("annotation",), labels="train", inductive=True
    )

    def __init__(self, *, seed: int = 0, shift: float = 0.0):
        self.shift = shift

    def fit(self, train):
        label = np.asarray(train.obs["label"], dtype=str)
        self.labels = np.unique(label)
        self.means = np.stack(
            [np.asarray(train.X[label == name].mean(axis=0)).ravel() for name in self.labels]
        )

    def predict(self, query):
        far = distances(query.X.toarray() + self.shift, self.means) + sum(OFFSETS)
        return Prediction(label_pred=self.labels[far.argmin(axis=1)])
'''
SMALL = {"tasks": "annotation", "datasets": "simulated_small", "split": "kfold", "n_splits": 2, "quiet": True}


def in_notebook(source: str, monkeypatch) -> dict:
    """Execute a cell as a notebook does: in ``__main__``, its text known to tracebacks alone."""
    name = f"<cell {hash(source)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    namespace = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), namespace)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    return namespace


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    out = tmp_path_factory.mktemp("api") / "out"
    return cellular_bench.run(methods=["knn", "true_labels", "random_label"], out=out, **SMALL)


def test_run_gives_the_records_of_the_folder_as_tables(results) -> None:
    frame = results.to_frame()
    every = [read_record(path) for path in results.folder.glob("runs/*/record.json")]
    on_disk = [record for record in every if not record.is_canary]
    assert len(every) > len(on_disk)
    assert len(on_disk) == len(results.records) == 6
    assert len(frame) == sum(len(record.scores) for record in on_disk)
    accuracy = frame[frame.metric_id == "accuracy"].groupby("method_id").value.mean()
    for method_id in ("knn", "true_labels", "random_label"):
        own = [record.value("accuracy") for record in on_disk if record.method.method_id == method_id]
        assert accuracy[method_id] == pytest.approx(np.mean(own), abs=0)
    assert frame.value.dtype == frame.wall_time_s.dtype == np.float64
    assert repr(results).endswith("6 ok)")
    assert results.failures == {}


def test_the_frame_is_the_table_for_programs(results, tmp_path) -> None:
    written = pd.read_csv(results.report(tmp_path / "deep" / "scores.csv"))
    frame = results.to_frame()
    frame = frame.where(frame.notna(), np.nan)
    pd.testing.assert_frame_equal(frame, written, check_dtype=False)


def test_a_leaderboard_has_a_row_per_method_the_best_first(results) -> None:
    board = results.leaderboard(task="annotation")
    assert list(board.method_id) == ["true_labels", "knn", "random_label"]
    assert list(board["rank"].isna()) == [True, False, True]
    assert board.overall.iloc[0] == 1.0
    assert board.overall.is_monotonic_decreasing
    assert list(board.n_ok) == list(board.n_runs) == [2, 2, 2]
    assert board.leak_canary[1] == "passed"
    assert results.leak_canary["annotation-simulated_small-kfold-2-42"].startswith(
        "Leak canary: 1 method agrees"
    )
    with pytest.raises(UserError, match=r"has no such results.*: annotation on simulated_small"):
        results.leaderboard(dataset="baron")


def test_a_notebook_shows_the_leaderboard(results) -> None:
    shown = results._repr_html_()
    assert shown.count("<tr") == 4
    assert "annotation: simulated_small" in shown
    assert f"{results.leaderboard().overall.iloc[1]:.3f}" in shown


def test_a_subsample_and_the_whole_in_one_folder_are_told_apart(tmp_path) -> None:
    for part in ({"subsample": 120}, {}):
        found = cellular_bench.run(methods="knn", out=tmp_path / "out", leak_canary=False, **SMALL, **part)
    assert found.leak_canary == {}
    board, frame = found.leaderboard(), found.to_frame()
    assert list(board["rank"]) == [1, 1]
    assert board.dataset_version.is_unique
    assert (
        set(board.dataset_version)
        == set(frame.dataset_version)
        == {path.name for path in (found.folder / "splits").iterdir()}
    )
    shown = found._repr_html_()
    for size in (120, 300):
        assert f"<h4>annotation: simulated_small, {size} cells, kfold-2-42</h4>" in shown


def test_reports_go_where_they_are_asked_to(results, tmp_path) -> None:
    page = results.report(tmp_path / "mine.html")
    assert page == tmp_path / "mine.html"
    assert "<html" in page.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.html"]
    assert results.report(tmp_path / "folder") == tmp_path / "folder" / "leaderboard.html"
    assert (tmp_path / "folder" / "scores.csv").exists()


def test_a_page_in_a_relative_place_holds_its_figures_however_heavy(results, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cellular_bench.reports.page.figure_pages.MOST_FIGURE_BYTES", 1000)
    page = results.report("deep/mine.html", figures=True)
    assert [path.name for path in page.parent.iterdir()] == ["mine.html"]
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/webp") == 4, "curves, and a confusion matrix for each method"
    assert "boards/" not in text
    assert "boards/annotation" in results.report("folder", figures=True).read_text(encoding="utf-8")


def test_an_older_folder_opens_and_no_other(results, tmp_path) -> None:
    assert Results(str(results.folder)).to_frame().equals(results.to_frame())
    with pytest.raises(UserError, match="is not a result folder"):
        Results(tmp_path)


def test_cells_in_memory_are_run_and_left_as_they_are(tmp_path) -> None:
    adata = simulate(n_obs=200, n_vars=60, n_labels=3, n_batches=2, seed=0)
    adata.obs = adata.obs.rename(columns={"batch": "donor", "label": "cell_type"})
    before = adata.copy()
    found = cellular_bench.run(
        adata=adata, batch_key="donor", label_key="cell_type", methods="knn", tasks="annotation",
        split="leave_one_batch_out", out=tmp_path / "out", quiet=True,
    )  # fmt: skip
    (row,) = found.leaderboard().to_dict("records")
    assert (row["dataset_id"], row["n_ok"], row["n_runs"]) == ("adata", 2, 2)
    assert {record.dataset.n_obs for record in found.records} == {200}
    assert (adata.X != before.X).sum() == 0
    assert list(adata.obs) == ["donor", "cell_type"] == list(before.obs)


def test_a_class_of_a_notebook_runs_in_processes_of_its_own(tmp_path, monkeypatch) -> None:
    method = in_notebook(CELL, monkeypatch)["NearestMean"]
    found = cellular_bench.run(
        methods=[method], params={"notebook_mean": {"shift": 0.5}}, out=tmp_path / "out", **SMALL
    )
    assert list(found.leaderboard().method) == ["nearest"]
    assert found.leaderboard().overall.item() > 0.9
    assert {record.method.params["shift"] for record in found.records} == {0.5}
    text = (tmp_path / "out" / "plugins" / "notebook_mean.py").read_text(encoding="utf-8")
    assert "import numpy as np" in text
    assert "def distances" in text
    assert text == plugin_source(in_notebook(CELL, monkeypatch)["NearestMean"])


def test_a_class_derived_from_another_method_is_the_only_one_in_its_file(tmp_path, monkeypatch) -> None:
    derived = """

class Sorted(NearestMean):
    spec = MethodSpec(method_id="derived", name="D", tasks=("annotation",), labels="train", inductive=True)

    def predict(self, query):
        return super().predict(query)
"""
    namespace = in_notebook(CELL + derived, monkeypatch)
    files = [write_plugin(namespace[name], tmp_path / f"{name}.py") for name in ("NearestMean", "Sorted")]
    plugins = registry.load(files)
    found = [[one.spec.method_id for one in plugin.methods] for plugin in plugins]
    assert found == [["notebook_mean"], ["derived"]]
    assert hasattr(plugins[1].methods[0], "fit")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('WORD = "nearest"', 'WORD = "w"\nTABLE = np.zeros(3)'), "'TABLE' is a ndarray of this notebook"),
        (("def fit", "def unused(self):\n        return open\n\n    def fit"), None),
    ],
)
def test_what_a_class_of_a_notebook_may_refer_to(change, problem, monkeypatch) -> None:
    source = CELL.replace(*change)
    if problem:
        source = source.replace("+ sum(OFFSETS)", "+ TABLE.sum()")
    method = in_notebook(source, monkeypatch)["NearestMean"]
    if problem is None:
        assert "return open" in plugin_source(method)
        return
    with pytest.raises(UserError, match=problem):
        plugin_source(method)


def test_a_class_of_a_file_is_that_file(tmp_path, monkeypatch) -> None:
    (tmp_path / "found_by_import.py").write_text(CELL)
    monkeypatch.syspath_prepend(tmp_path)
    import found_by_import

    assert write_plugin(found_by_import.NearestMean, tmp_path / "x.py") == Path(found_by_import.__file__)
    assert not (tmp_path / "x.py").exists()


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"methods": "harmoni"}, "Did you mean 'harmony'"),
        ({"methods": [object()]}, "expected names, files or classes"),
        ({"methods": [dict]}, "dict is no method"),
        ({"splitt": "kfold"}, "Unknown option 'splitt'. Did you mean 'split'?"),
        ({"split": "kfolds"}, "Unknown split 'kfolds'. Did you mean 'kfold'?"),
        ({"adata": "x.h5ad"}, "There is no such file"),
        ({"retry": "bogus"}, "retry: Input should be 'failed'.*got 'bogus'"),
        ({"time_limit": -1}, "time_limit: Input should be greater than 0 .got -1"),
        ({"jobs": 0}, "jobs: Input should be greater than or equal to 1 .got 0"),
        ({"n_splits": 3}, "--n-splits, --reference and --unseen are options of --split"),
        ({"data_dir": "nowhere"}, "data_dir: Directory 'nowhere' does not exist"),
        ({"stress": "label_nois=0"}, "Did you mean 'label_noise'"),
    ],
)
def test_wrong_requests_say_what_is_wrong(request_, problem, tmp_path) -> None:
    with pytest.raises(UserError, match=problem):
        cellular_bench.run(**request_, out=tmp_path / "out", quiet=True)


def test_options_are_read_as_on_the_command_line(results, tmp_path) -> None:
    again = cellular_bench.run(
        methods="knn", out=tmp_path / "again", reuse=str(results.folder), retry="failed", seeds=0,
        stress="label_noise=0,0.3", **SMALL,
    )  # fmt: skip
    assert len(again.records) == 4
    ids = {record.run_id for record in results.records}
    assert sum(record.run_id in ids for record in again.records) == 2, "those at no noise are taken over"


def test_scores_of_embeddings_in_memory_are_those_of_the_file(tmp_path) -> None:
    adata = simulate(n_obs=150, n_vars=40, n_labels=3, n_batches=2, seed=0)
    emb = np.random.default_rng(0).normal(size=(150, 4))
    adata.obsm["X_a"] = emb
    known = {"batch_key": "batch", "label_key": "label", "metrics": ["silhouette_label", "ilisi"]}
    in_memory = cellular_bench.score(adata, obsm="X_a", embeddings={"b": emb}, **known)
    adata.write_h5ad(tmp_path / "a.h5ad")
    of_file = cellular_bench.score(tmp_path / "a.h5ad", obsm="X_a", **known)
    assert list(in_memory.method_id) == ["X_a", "X_a", "b", "b"]
    np.testing.assert_array_equal(in_memory.value[:2], of_file.value)
    np.testing.assert_array_equal(in_memory.value[:2], in_memory.value[2:])
    with pytest.raises(UserError, match="shape"):
        cellular_bench.score(adata, embeddings={"b": emb[:9]}, **known)
    named = pd.DataFrame(emb, index=adata.obs_names)
    of_frame = cellular_bench.score(adata, embeddings={"b": named}, **known)
    np.testing.assert_array_equal(of_frame.value, of_file.value)
    with pytest.raises(UserError, match="Embedding 'b' has its rows in another order"):
        cellular_bench.score(adata, embeddings={"b": named[::-1]}, **known)


def test_scores_of_predictions_in_a_table() -> None:
    table = pd.DataFrame(
        {"label": [1, 1, 2, 2], "label_pred": [1, 2, 2, None], "fold": [0, 0, 1, 1]}, index=[5, 5, 6, 6]
    )
    found = cellular_bench.score(predictions=table, metrics=["accuracy", "coverage"])
    values = found.set_index(["fold", "metric_id"]).value
    assert values[0, "accuracy"] == 0.5
    assert values[1, "accuracy"] == 0.5
    assert values[1, "coverage"] == 0.5
    with pytest.raises(UserError, match="Give either"):
        cellular_bench.score()


def test_whole_numbers_beside_a_rejection_are_the_same_labels_in_a_file(tmp_path) -> None:
    table = pd.DataFrame({"label": [0, 1, 2, 1, 0], "label_pred": [0, 1, 2, None, 1]})
    table.to_csv(tmp_path / "p.csv", index=False)
    assert "1,1.0" in (tmp_path / "p.csv").read_text()
    for given in (table, tmp_path / "p.csv"):
        assert cellular_bench.score(predictions=given, metrics="accuracy").value.item() == 0.6


def test_spellings_of_one_label_are_one_and_told() -> None:
    table = pd.DataFrame({"label": ["1.0", "1", "x"], "label_pred": ["1.0", "1.0", " x"]})
    with pytest.warns(UserWarning, match="Spellings of one name: ' x' and 'x'; '1' and '1.0'"):
        assert cellular_bench.score(predictions=table, metrics="accuracy").value.item() == 1.0


def test_predictions_of_another_vocabulary_are_told() -> None:
    table = pd.DataFrame({"label": ["B1", "T1"], "label_pred": ["B", "T"]})
    with pytest.warns(UserWarning, match="No predicted label is among the true ones.*'B', 'T' against 'B1'"):
        assert cellular_bench.score(predictions=table, metrics="accuracy").value.item() == 0
