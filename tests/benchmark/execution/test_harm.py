"""The task harm from data to boards: one batch in halves, two calls of a method, each with its own draw."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import build_boards, is_transductive
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.execution.views import SECOND_BATCHES, visible_files
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.results.contents import check_split, holds_split
from cellular_bench.benchmark.results.store import ARTIFACTS, OUTPUTS, Store
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.errors import UserError
from cellular_bench.core.outputs import read_outputs
from cellular_bench.datasets import catalog
from cellular_bench.datasets.simulator import simulate
from cellular_bench.metrics import METRICS
from cellular_bench.reports.tables.overview import subtitle
from cellular_bench.workflows.rescore import rescore

METHODS = '''
import json
from pathlib import Path

import numpy as np

from cellular_bench import Corrected, Graph, MethodSpec


def places(adata):
    X = np.asarray(adata.X.todense())
    return X - X.mean(axis=0)


def half(adata):
    return np.asarray(adata.obs["batch"] == "half_2", dtype=float)


def spec(method_id, **facts):
    return MethodSpec(method_id=method_id, name=method_id, tasks=("integration",), **facts)


class Method:
    def __init__(self, *, seed=0):
        self.draw = np.random.default_rng(seed).random()


class Still(Method):
    """Ignores batches, writes down what it is given, and spoils it."""

    spec = spec("still")
    artifacts = None

    def fit_embed(self, adata):
        assert not (self.artifacts / "seen.json").exists()
        assert not hasattr(self, "seen")
        self.seen = {
            "columns": list(adata.obs), "batch": list(adata.obs["batch"]), "names": list(adata.obs_names),
            "draws": [self.draw, np.random.random()],
        }
        (self.artifacts / "seen.json").write_text(json.dumps(self.seen))
        found = places(adata)
        adata.obs["batch"] = "spoilt"
        adata.X = adata.X * 0
        return found


class Learns(Method):
    spec = spec("learns", inductive=True)

    def fit(self, train):
        self.shift = [places(train)[half(train) == side].mean(axis=0) for side in (0, 1)]

    def embed(self, query):
        return places(query) - np.array(self.shift)[half(query).astype(int)]


class Apart(Method):
    """Corrects expression by adding the half to each gene."""

    spec = spec("apart")

    def fit_embed(self, adata):
        moved = places(adata) + 3 * half(adata)[:, None]
        return Corrected(X=moved, X_emb=moved)


class Links(Method):
    spec = spec("links")

    def fit_embed(self, adata):
        from scipy.sparse import csr_matrix

        X = places(adata)
        lengths = np.sqrt(((X[:, None] - X[None]) ** 2).sum(axis=2))
        weights = 1 / (1 + lengths) - np.eye(len(X))
        return Graph(connectivities=csr_matrix(weights), distances=csr_matrix(lengths))


class Fickle(Method):
    """Another kind of output in the second call."""

    spec = spec("fickle")
    artifacts = None

    def fit_embed(self, adata):
        X = places(adata)
        if self.artifacts.name == "second":
            return Graph(connectivities=np.ones((len(X),) * 2))
        return X
'''
N = 160


@pytest.fixture(scope="module")
def cells():
    """Two batches, the larger one not the first by name."""
    adata = simulate(n_obs=N, n_vars=30, n_labels=2, n_batches=2, seed=0)
    adata.obs["batch"] = np.where(np.arange(N) < 20, "a", "b")
    return adata


#: What is carried out: of all splits only where methods are compared.
CHOSEN = {
    "still": (
        "even_halves-b.1",
        "even_halves-b.2",
        "even_halves-b.3",
        "skewed_halves-b.1",
        "skewed_halves-b.2",
    ),
    "apart": ("even_halves-b.1", "skewed_halves-b.1"),
    "links": ("skewed_halves-b.1",),
    "learns": ("even_halves-b.1",),
    "fickle": ("even_halves-b.1",),
}


class Silent:
    def started(self, run): ...

    def finished(self, record): ...


@pytest.fixture(scope="module")
def made(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("harm")
    plugin = folder / "methods.py"
    plugin.write_text(METHODS)
    data = catalog.load(catalog.from_memory(cells, batch_key="batch", label_key="label"))
    splits = ["even_halves", "skewed_halves"]
    block = {"task": "harm", "datasets": ["adata"], "methods": list(CHOSEN), "splits": splits}
    planned = plan(
        Suite(suite_id="x", title="X", blocks=[block]),
        datasets={"adata": data},
        methods=registry.methods([plugin]),
        plugins=[plugin],
    )
    assert len(planned.runs) == 6 * len(CHOSEN)
    chosen = [run for run in planned.runs if run.split.split_id in CHOSEN[run.method.method_id]]
    store = Store.create(folder / "out", planned.suite)
    executor = Executor(store=store, n_jobs=1)
    for _ in executor.execute(
        replace(planned, runs=tuple(chosen)), datasets={"adata": data}, progress=Silent()
    ):
        pass
    return planned, store


def _runs(store, method_id):
    return sorted(
        (run for run in store.records() if run.method.method_id == method_id), key=lambda r: r.split.split_id
    )


def test_each_call_sees_its_own_draw_of_the_same_cells_and_nothing_else(made, cells):
    _, store = made
    runs = _runs(store, "still")
    assert [run.split.split_id for run in runs] == list(CHOSEN["still"])
    drawn = {}
    for run in runs:
        assert run.status == "ok", run.reason
        assert (run.split.n_train, run.split.n_test) == (N - 20, N - 20)
        folder = store.run_folder(run.run_id) / ARTIFACTS
        first, second = (
            json.loads((folder / name).read_text()) for name in ("seen.json", "second/seen.json")
        )
        assert first["columns"] == second["columns"] == ["batch"]
        assert first["names"] == second["names"]
        assert set(first["names"]).isdisjoint(cells.obs_names)
        assert first["draws"] == second["draws"], "the same seed, and the same global seed"
        assert first["batch"] != second["batch"]
        assert {*first["batch"], *second["batch"]} == {"half_1", "half_2"}
        drawn[run.split.split_id] = sorted(first["batch"]), sorted(second["batch"])
    pairs = [drawn[f"even_halves-b.{n}"] for n in (1, 2, 3)]
    assert [second for _, second in pairs] == [first for first, _ in (*pairs[1:], pairs[0])]
    assert drawn["skewed_halves-b.1"][1] == drawn["skewed_halves-b.2"][0]


def test_scores_say_what_each_method_does(made):
    _, store = made
    for run in _runs(store, "still"):
        assert run.value("harmless") == 1.0
        assert "false_de" not in {score.metric_id for score in run.scores}
        assert run.cost.wall_time_s > 0
    for run in _runs(store, "links"):
        same = next(other for other in _runs(store, "still") if other.split.split_id == run.split.split_id)
        assert run.value("harmless") == 1.0
        assert run.value("mixing_ratio") == pytest.approx(same.value("mixing_ratio"))
    for run in _runs(store, "apart"):
        assert run.value("mixing_as_chance") == 0.0
        assert run.value("harmless") < 0.5
        assert run.value("false_de") > 0.9
    for run in _runs(store, "learns"):
        assert run.status == "ok"
    for run in _runs(store, "fickle"):
        assert run.status == "failed"
        assert "The first call of the method gave X_emb, the second one graph." in run.reason


def test_what_is_kept_scores_the_same_again_and_is_of_its_split(made):
    _, store = made
    run, (links,) = _runs(store, "apart")[0], _runs(store, "links")
    kept = read_outputs(store.run_folder(run.run_id) / OUTPUTS)
    assert kept.more["X_emb_again"].shape == kept.X_emb.shape
    check_split(store, run)
    for other in (run, links):
        assert rescore(store, other) == other


def test_halves_in_a_folder_are_those_of_the_split(made, cells):
    _, store = made
    planned, data = made[0], catalog.load(catalog.from_memory(cells, batch_key="batch", label_key="label"))
    first, second, *_ = planned.splits.values()
    run = next(run for run in planned.runs if run.split.digest == first.digest)
    folder = store.split_folder(run.dataset, run.split)
    assert holds_split(folder, first, data.adata.obs)
    assert not holds_split(folder, second, data.adata.obs), "other halves of the same cells"


def test_the_halves_have_a_board_each_on_which_all_learn_alike(made):
    _, store = made
    boards = build_boards(store.every_record(), METRICS.values())
    assert [(board.task, subtitle(board)) for board in boards] == [
        ("harm", "one batch in random halves"),
        ("harm", "one batch in halves of other composition"),
    ]
    for board in boards:
        assert board.canary is None
        assert {row.track for row in board.rows} == {"unsupervised"}
        assert not any(is_transductive(run) for row in board.rows for run in row.runs)
        found = {row.method.method_id: row.overall.mean for row in board.rows}
        assert found["still"] > 0.85 > 0.5 > found["apart"]
        shown = {spec.metric_id for spec in board.metrics}
        assert {"mixing_ratio", "false_de_genes"} < shown


def test_only_the_second_batches_are_visible_beyond_the_cells():
    ask = {"labels": "none", "needs_train": False, "needs_names": False}
    assert set(visible_files(**ask, is_called_twice=True)) - set(visible_files(**ask)) == {SECOND_BATCHES}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"splits": ["kfold"]}, "The task harm needs the split even-halves or skewed-halves, not kfold"),
        ({"methods": ["knn"]}, "Method 'knn' does annotation, novelty, not harm"),
        ({"splits": [{"kind": "even_halves", "within": "z"}]}, "Unknown batch 'z'"),
    ],
)
def test_what_it_cannot_do_is_refused(small, block, message):
    block = {"task": "harm", "datasets": list(small), "methods": ["pca"], "splits": ["even_halves"]} | block
    with pytest.raises(UserError, match=message):
        plan(Suite(suite_id="x", title="X", blocks=[block]), datasets=small, methods=registry.methods())


def test_methods_of_integration_do_it_too_and_controls_may_do_it_alone():
    known = registry.methods()
    able = {name for name, method in known.items() if TASKS["harm"].is_done_by(method.spec)}
    integrators = {name for name, method in known.items() if "integration" in method.spec.tasks}
    assert able - integrators == {"pca_thinned", "pca_fewer_genes"}
    assert integrators < able
