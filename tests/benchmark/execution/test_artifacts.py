"""What a method keeps: a folder beside its record, there again when the run is done again."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.execution.job import Job
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.workflows.figures import draw

PLUGIN = '''
import json
import numpy as np
from cellular_bench import MethodSpec, Prediction


class Plain:
    spec = MethodSpec(method_id="plain", name="Plain", tasks=("annotation",), labels="train", inductive=True)

    def __init__(self, *, seed=0):
        pass

    def fit(self, train):
        self.label = train.obs["label"].iloc[0]

    def predict(self, query):
        return Prediction(label_pred=np.full(query.n_obs, self.label))


class Keeps(Plain):
    """Counts how often it was run, and leaves two losses."""
    spec = MethodSpec(method_id="keeps", name="Keeps", tasks=("annotation",), labels="train", inductive=True)
    artifacts = None

    def fit(self, train):
        super().fit(train)
        count = self.artifacts / "count.txt"
        count.write_text(count.read_text() + "x" if count.exists() else "x")
        epochs = [
            {"epoch": i, "train": {"total": loss}, "validation": {"total": loss}}
            for i, loss in enumerate([2.0, 1.0])
        ]
        reported = {"network": {"epochs": epochs, "best_epoch": 1}}
        (self.artifacts / "history.json").write_text(json.dumps(reported))
'''


@pytest.fixture
def run(planned, small, silent, tmp_path, keeping) -> Callable[[], tuple[Store, list[RunRecord]]]:
    """Do what has no record yet."""

    def do() -> tuple[Store, list[RunRecord]]:
        plan = planned("plain", "keeps", split={"kind": "kfold", "n_splits": 2}, plugin=keeping)
        store = Store.create(tmp_path / "out", plan.suite)
        records = list(Executor(store=store, n_jobs=1).execute(plan, datasets=small, progress=silent))
        assert [record.status for record in records] == ["ok"] * len(records), [r.reason for r in records]
        return store, records

    return do


@pytest.fixture(scope="module")
def keeping(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "keeps.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return path


def test_a_method_finds_what_it_kept_and_the_report_draws_its_losses(run) -> None:
    store, records = run()
    folders = {record.method.method_id: store.run_folder(record.run_id) for record in records}
    assert not (folders["plain"] / "artifacts").exists(), "only where it is asked for"
    kept = folders["keeps"] / "artifacts"
    assert (kept / "count.txt").read_text() == "x"

    (folders["keeps"] / "record.json").unlink()
    _, again = run()
    assert len(again) == 1, "only the run without a record is done again"
    assert (kept / "count.txt").read_text() == "xx"

    figures = draw([store], store.root, build_boards(records, registry.metrics().values()), n_jobs=1)
    (history,) = [figure for figure in figures if figure.kind == "history"]
    assert history.method_id == "keeps"
    assert history.caption.startswith("Keeps, 2 runs. Loss per epoch")
    assert "kfold-2-42.2, seed 0: network 1 of 2" in history.alt
    assert json.loads((kept / "history.json").read_text())["network"]["best_epoch"] == 1


def test_what_a_method_may_not_leave_is_deleted_with_a_note(planned, tmp_path) -> None:
    (run,) = planned("nearest_centroid", split={"kind": "reference_query", "reference": ["batch1"]}).runs
    store = Store(tmp_path)
    (tmp_path / "secret").write_text("PRIVATE")
    store.clear_run(run.run_id)
    job = Job(run=run, store=store)
    job.open()
    artifacts = job.assignment().artifacts
    (artifacts / "kept" / "deep").mkdir(parents=True)
    (artifacts / "kept" / "deep" / "model.bin").write_bytes(b"1")
    (artifacts / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(artifacts / "kept" / "pipe")
    (job.out / "closed").mkdir(mode=0)
    (artifacts / "kept").chmod(0)
    (note,) = job.close()
    assert note.startswith("2 of its artifacts were deleted: links, pipes")
    left = tmp_path / "runs" / run.run_id / "artifacts"
    assert sorted(str(path.relative_to(left)) for path in left.rglob("*")) == [
        "kept",
        "kept/deep",
        "kept/deep/model.bin",
    ]
    assert (left / "kept").stat().st_mode & 0o777 == 0o700
    assert not job.store.root.joinpath("working").exists() or not any(tmp_path.joinpath("working").iterdir())
    assert (tmp_path / "secret").read_text() == "PRIVATE"
