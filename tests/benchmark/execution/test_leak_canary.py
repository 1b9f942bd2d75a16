"""Attacks that read hidden labels: whatever way gets through is flagged by the leak canary of its board."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from cellular_bench import Results
from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.results.merge import merge
from cellular_bench.benchmark.results.progress import overview, write_plan
from cellular_bench.benchmark.results.store import RECORD, Store
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.errors import UserError
from cellular_bench.datasets import catalog
from cellular_bench.datasets.contract import digest
from cellular_bench.metrics import METRICS
from cellular_bench.workflows.export import export
from cellular_bench.workflows.reproduce import ReproduceRequest, reproduce

SPIES = '''
import json
from pathlib import Path

import anndata
import numpy as np

from cellular_bench import MethodSpec, Prediction

ROOT = Path({root!r})


class Spy:
    """Answers with what it finds out; otherwise always the same."""

    def __init__(self, *, seed=0):
        self.seed = seed

    def fit(self, train):
        self.label = np.asarray(train.obs["label"], dtype=str)
        self.train = train

    def predict(self, query):
        found = self.find(query)
        known = set(self.label)
        label = np.array([name if name in known else self.label[0] for name in found])
        return Prediction(label_pred=label, novelty=np.zeros(query.n_obs))


def spec(method_id):
    given = dict(tasks=("annotation", "novelty"), labels="train", inductive=True)
    return MethodSpec(method_id=method_id, name=method_id, **given)


class Constant(Spy):
    spec = spec("constant")

    def find(self, query):
        return [""] * query.n_obs


class ReadsNames(Spy):
    spec = spec("reads_names")

    def find(self, query):
        return [name.split("-")[0] for name in query.obs_names]


class ReadsOrder(Spy):
    """The file is sorted by type, and types are as frequent in training."""

    spec = spec("reads_order")

    def find(self, query):
        return np.sort(self.label)[np.linspace(0, len(self.label) - 1, query.n_obs).astype(int)]


class ReadsFiles(Spy):
    """Looks the cells up in the files of the harness: in the one that knows the training cells as it does."""

    spec = spec("reads_files")

    def find(self, query):
        learned, wanted = ([row.tobytes() for row in cells.X.toarray()] for cells in (self.train, query))
        for path in sorted(ROOT.glob("data/*.h5ad")):
            cells = anndata.read_h5ad(path)
            rows = cells[:, query.var_names].X.toarray()
            label = dict(zip((row.tobytes() for row in rows), cells.obs["label"].astype(str)))
            found = [label.get(row, "") for row in [*learned, *wanted]]
            if found[: len(learned)] == list(self.label):
                return found[len(learned) :]
        return [""] * query.n_obs


class Remembers(Spy):
    """Keeps the labels of the cells that it learned from, by name, from run to run."""

    spec = spec("remembers")

    def find(self, query):
        path = Path.home() / ".canary_test_labels.json"
        known = json.loads(path.read_text()) if path.exists() else {{}}
        found = [known.get(name, "") for name in query.obs_names]
        path.write_text(json.dumps(known | dict(zip(self.train.obs_names, self.label))))
        return found
'''
SPY_IDS = ("reads_names", "reads_order", "reads_files", "remembers")
HONEST = ("knn", "constant")


class Silent:
    def started(self, run): ...

    def finished(self, record): ...


@pytest.fixture(scope="module")
def telling():
    """Cells that are named after their type and sorted by it."""
    dataset = catalog.load(catalog.specs()["simulated_small"])
    adata = dataset.adata[np.argsort(dataset.adata.obs["label"].astype(str), kind="stable")].copy()
    adata.obs_names = [f"{label}-{i}" for i, label in enumerate(adata.obs["label"])]
    return replace(dataset, adata=adata, digest=digest(adata))


@pytest.fixture(scope="module")
def made(telling, tmp_path_factory):
    """A plan with honest methods and spies, and its results."""
    folder = tmp_path_factory.mktemp("canary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        plugin = folder / "spies.py"
        plugin.write_text(SPIES.format(root=str(folder / "out")))
        methods = [*HONEST, *SPY_IDS, "true_labels"]
        common = {"datasets": ["simulated_small"], "methods": methods}
        blocks = [
            common | {"task": "annotation", "splits": [{"kind": "kfold", "n_splits": 2}]},
            common | {"task": "novelty", "splits": [{"kind": "unseen_label", "n_labels": 1, "n_splits": 2}]},
        ]
        suite = Suite.model_validate({"suite_id": "test", "title": "Test", "blocks": blocks})
        datasets = {"simulated_small": telling}
        planned = plan(suite, datasets=datasets, methods=registry.methods([plugin]), plugins=[plugin])
        store = Store.create(folder / "out", planned.suite)
        executor = Executor(store=store, n_jobs=1)
        for _ in executor.execute(planned, datasets=datasets, progress=Silent()):
            pass
    return planned, store, executor


@pytest.fixture(scope="module")
def boards(made):
    return {board.task: board for board in build_boards(made[1].every_record(), METRICS.values())}


@pytest.mark.parametrize("spy", SPY_IDS)
def test_an_attack_that_gets_at_labels_is_flagged(boards, spy):
    (row,) = [row for row in boards["annotation"].rows if row.method.method_id == spy]
    assert all(run.status == "ok" for run in row.runs)
    accuracy = row.metrics["accuracy"].mean
    constant = next(row for row in boards["annotation"].rows if row.method.method_id == "constant")
    learned = accuracy > constant.metrics["accuracy"].mean + 0.2
    assert (verdicts(boards["annotation"])[spy] == "flagged") == learned


def verdicts(board):
    from cellular_bench.benchmark.analysis.leaderboard import method_key

    return {row.method.method_id: board.canary.verdict(method_key(row.method)) for row in board.rows}


@pytest.mark.parametrize("task", ["annotation", "novelty"])
def test_honest_methods_pass_and_the_control_shows_that_a_leak_would_be_seen(boards, task):
    found = verdicts(boards[task])
    assert [found[name] for name in HONEST] == ["passed"] * 2
    assert found["true_labels"] is None, "controls see labels by design"
    assert boards[task].canary.has_power


def test_runs_of_canaries_are_no_results(made, tmp_path):
    planned, store, _ = made
    assert {run.run_id for run in store.records()} == {run.run_id for run in planned.runs}
    tested = [run for run in store.every_record() if run.is_canary]
    assert {run.run_id for run in tested} == {run.run_id for run in planned.canaries}
    assert all(run.confusion and not run.scores and not run.per_label for run in tested)
    ids = {run.run_id for run in tested}
    assert len(Results(store.root).records) == len(planned.runs)
    (path,) = export(store.root, output="csv", out=tmp_path)
    with path.open() as file:
        assert ids.isdisjoint(row["run_id"] for row in csv.DictReader(file))
    assert len(list(export(store.root, output="h5ad", out=tmp_path))) == len(
        {run.split.digest for run in planned.runs}
    )


def test_they_are_counted_apart_and_not_repeated(made):
    planned, store, executor = made
    assert executor.missing(planned) == []
    write_plan(store, planned.runs, n_jobs=1, canaries=planned.canaries)
    seen = overview(store)
    assert (seen.n_planned, sum(seen.statuses.values()), seen.n_other) == (len(planned.runs),) * 2 + (0,)
    assert (seen.n_canaries, seen.n_canaries_done) == (len(planned.canaries),) * 2


def test_none_is_reproduced(made):
    planned, store, _ = made
    with pytest.raises(UserError, match="is a run of a leak canary, which is no result"):
        path = store.run_folder(planned.canaries[0].run_id) / RECORD
        reproduce(ReproduceRequest(record_file=path))


def test_they_go_with_a_merged_folder(made, tmp_path):
    planned, store, _ = made
    merged = merge([store], tmp_path / "merged")
    assert merged.n_records == len(planned.runs)
    assert Results(tmp_path / "merged").leak_canary == Results(store.root).leak_canary
