"""Runs end as records: the healthy with scores, the broken with the right status and reason."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import method_key
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.isolation import scratch
from cellular_bench.benchmark.isolation.call import call
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.plan.run import Plan
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.records import Limits, RunRecord
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.errors import UserError
from cellular_bench.core.outputs import read_outputs
from cellular_bench.core.types import Dataset
from cellular_bench.workflows.rescore import rescore


@pytest.fixture(scope="module")
def dataset(small):
    return small["simulated_small"]


def make_suite(task: str, methods: list[str], split: object = "all", **limits: float) -> Suite:
    block = {"task": task, "datasets": ["simulated_small"], "methods": methods, "splits": [split]}
    return Suite(suite_id="test", title="Test", blocks=[block], limits=limits, leak_canary=False)


@pytest.fixture(scope="module")
def make_plan(small, plugin) -> Callable[..., Plan]:
    def make(suite: Suite, *, plugin: Path = plugin, datasets: Mapping[str, Dataset] = small) -> Plan:
        return plan(suite, datasets=datasets, methods=registry.methods([plugin]), plugins=[plugin])

    return make


@pytest.fixture(scope="module")
def execute(make_plan, small, silent) -> Callable[..., dict[str, RunRecord]]:
    """Carry a suite out in a folder; return the last record of each method."""

    def run(
        root: Path, suite: Suite, *, datasets: Mapping[str, Dataset] = small, **options: object
    ) -> dict[str, RunRecord]:
        executor = Executor(store=Store.create(root, suite), n_jobs=2, **options)
        planned = make_plan(suite, datasets=datasets)
        records = executor.execute(planned, datasets=datasets, progress=silent)
        return {record.method.method_id: record for record in records}

    return run


KFOLD = {"kind": "kfold", "n_splits": 2}
TWO_FOLDS = {"kind": "unseen_label", "labels": ["type2"], "n_splits": 2}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, execute) -> dict[str, RunRecord]:
    """Broken annotators together with a healthy one, in one go."""
    names = "healthy raises allocates reorders returns_nan too_few_rows segfaults leaves refuses"
    names += " needs_missing leaves_quietly mumbles"
    split = {"kind": "reference_query", "reference": ["batch1"]}
    out = tmp_path_factory.mktemp("zoo") / "out"
    quick = make_suite("annotation", names.split(), split, time_limit_s=120, memory_limit_mib=1200)
    endless = make_suite("annotation", ["sleeps", "forks"], split, time_limit_s=4)
    return execute(out, quick) | execute(out, endless)


@pytest.mark.parametrize(
    ("method_id", "status", "reason"),
    [
        ("raises", "failed", "RuntimeError: no luck today (zoo.py, line "),
        (
            "leaves_quietly",
            "failed",
            "The method ended its process (exit code 0) before it returned anything.",
        ),
        ("mumbles", "failed", "ValueError: half a character: � (zoo.py, line "),
        ("sleeps", "timeout", "Still running after the time limit of 4 s."),
        ("allocates", "out_of_memory", "the limit is 1200 MiB."),
        ("returns_nan", "failed", "returns_nan: novelty is NaN or infinite for 1 of "),
        ("too_few_rows", "failed", "expected ("),
        ("segfaults", "failed", "The process was ended by signal SIGSEGV."),
        ("leaves", "failed", "The process ended with exit code 3."),
        ("forks", "timeout", "Still running after the time limit"),
        ("refuses", "not_applicable", "only for brains"),
        ("needs_missing", "not_applicable", "Needs no_such_module_at_all, which is not installed."),
    ],
)
def test_a_broken_method_ends_as_the_right_record(zoo, method_id: str, status: str, reason: str) -> None:
    record = zoo[method_id]
    assert record.status == status
    assert reason in record.reason
    assert record.scores == ()


def test_a_healthy_method_is_not_disturbed_by_broken_ones(zoo) -> None:
    record = zoo["healthy"]
    assert record.status == "ok", record.reason
    assert record.value("accuracy") > 0.8
    assert record.cost.peak_rss_mib >= record.cost.baseline_rss_mib > 0
    assert sum(row.support for row in record.per_label) == record.split.n_test
    counted = sum(count for row in record.confusion.values() for count in row.values())
    assert counted == record.split.n_test


def test_the_log_of_a_failed_run_is_in_its_record(zoo) -> None:
    assert "no luck today" in zoo["raises"].log_tail
    assert "good bye" in zoo["leaves"].log_tail
    assert zoo["healthy"].log_tail == ""


def works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False  # it ended a moment ago, or is somebody else's


def test_no_process_survives_its_run(zoo) -> None:
    del zoo  # its runs are over
    children = psutil.Process().children()
    servers = [child for child in children if "forkserver" in " ".join(child.cmdline())]
    assert servers, "runs are forked from a server"
    left = [child for server in servers for child in server.children(recursive=True)]
    assert [child for child in left if child.status() != psutil.STATUS_ZOMBIE] == []
    # Every run begins in a folder below this one: what left its server is there still.
    assert [process for process in psutil.process_iter() if works_in(process, scratch.home())] == []


def test_rows_in_another_order_are_noticed(execute, tmp_path) -> None:
    names = ["names_in_another_order", "shuffled_rows", "nan_embedding", "pca"]
    records = execute(tmp_path / "out", make_suite("integration", names))
    assert records["pca"].status == "ok"
    assert "in another order: row 0 is" in records["names_in_another_order"].reason
    assert "bear no relation to the cells" in records["shuffled_rows"].reason
    assert "NaN or infinite for 1 of 300 cells" in records["nan_embedding"].reason
    bad = [records[name].status for name in names[:3]]
    assert bad == ["failed"] * 3


def test_predictions_in_another_order_are_noticed(execute, zoo, tmp_path) -> None:
    # 150 scored cells are too few to tell; 300 suffice.
    assert zoo["reorders"].status == "ok"
    records = execute(tmp_path / "out", make_suite("annotation", ["reorders", "healthy"]))
    assert records["reorders"].status == "failed"
    assert "bear no relation to the cells" in records["reorders"].reason
    assert records["healthy"].status == "ok"


def test_labels_do_not_reach_a_method_that_declares_none(execute, tmp_path) -> None:
    suite = make_suite("annotation", ["peeks"], {"kind": "reference_query", "reference": ["batch1"]})
    store = Store.create(tmp_path / "out", suite)
    execute(tmp_path / "out", suite)
    record = next(store.records())
    seen = read_outputs(store.run_folder(record.run_id) / "outputs.npz").label_pred
    assert set(seen) == {"batch/batch"}


def test_the_same_command_runs_only_what_is_missing(execute, tmp_path) -> None:
    suite = make_suite("annotation", ["healthy", "raises"], KFOLD)
    execute(tmp_path, suite)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/record.json")}
    assert len(before) == 4
    victim = min(before)
    victim.write_text("{ half a rec", encoding="utf-8")
    again = execute(tmp_path, suite)
    assert len(again) == 1
    unchanged = {path for path, time in before.items() if path.stat().st_mtime_ns == time}
    assert unchanged == before.keys() - {victim}
    retried = execute(tmp_path, suite, retry=frozenset({"failed"}))
    assert set(retried) == {"raises"}


def test_the_same_seed_gives_the_same_scores(execute, tmp_path) -> None:
    suite = make_suite("novelty", ["healthy", "random_label"], TWO_FOLDS)
    first = execute(tmp_path / "a", suite)
    second = execute(tmp_path / "b", suite)
    for name in first:
        assert first[name].scores == second[name].scores
        assert first[name].run_id == second[name].run_id
    seeds = {record.method_seed for record in first.values()}
    assert len(seeds) == 2


def test_novel_cells_are_scored_as_such(execute, tmp_path) -> None:
    records = execute(tmp_path, make_suite("novelty", ["healthy", "true_labels"], TWO_FOLDS))
    assert records["true_labels"].value("novelty_auroc") == 1.0
    assert records["healthy"].value("novelty_auroc") > 0.5
    assert records["healthy"].split.unseen_labels == ("type2",)


def test_other_parameters_are_another_run(make_plan) -> None:
    plain = make_plan(make_suite("annotation", ["healthy"])).runs[0]
    shrunk = {"method_id": "healthy", "params": {"shrink": 0.5}}
    changed = make_plan(make_suite("annotation", [shrunk])).runs[0]
    assert plain.run_id != changed.run_id
    assert changed.method.params == {"shrink": 0.5}


def test_an_edited_plugin_is_another_row(make_plan, tmp_path, plugin) -> None:
    edited = tmp_path / "zoo.py"
    edited.write_text(plugin.read_text() + "\nHealthy.__init__.__doc__ = 'better now'\n")
    suite = make_suite("annotation", ["healthy"])
    old, new = (make_plan(suite, plugin=path).runs[0].method for path in (plugin, edited))
    assert method_key(old) != method_key(new)
    assert len(old.source_digest) == 10


def test_a_batch_of_one_cell_does_not_stop_the_others(execute, tmp_path, dataset) -> None:
    adata = dataset.adata.copy()
    batch = adata.obs["batch"].astype(str)
    batch.iloc[0] = "alone"
    adata.obs["batch"] = batch.astype("category")
    changed = replace(dataset, adata=adata, digest="0" * 64)
    suite = make_suite("annotation", ["healthy"], "leave_one_batch_out").model_copy(update={"min_cells": 1})
    records = execute(tmp_path / "out", suite, datasets={"simulated_small": changed})
    assert records["healthy"].status == "ok"
    root = tmp_path / "out"
    assert len(list(root.glob("runs/*/record.json"))) == 3


def test_a_second_benchmark_is_kept_out_of_the_folder(tmp_path) -> None:
    store = Store.create(tmp_path / "out", make_suite("annotation", ["healthy"]))
    with (
        store.locked(),
        pytest.raises(UserError, match="Another run-benchmark is writing to"),
        Store.open(store.root).locked(),
    ):
        pass
    with store.locked():
        assert store.root.is_dir()


HARNESS = """
import sys
from pathlib import Path
from cellular_bench.benchmark.isolation.call import call
from cellular_bench.benchmark.schema.records import Limits

call({function}, {argument!r}, limits=Limits(), log=Path({log!r}))
"""


def test_a_run_does_not_outlive_a_killed_harness(wait_for, tmp_path) -> None:
    log = tmp_path / "log.txt"
    script = HARNESS.format(
        function="__import__('os').system", argument="echo $$; sleep 3600 & echo $!; wait", log=str(log)
    )
    harness = subprocess.Popen([sys.executable, "-c", script])
    children: list[psutil.Process] = []
    try:
        wait_for(lambda: log.exists() and len(log.read_text().split()) == 2)
        children = [psutil.Process(int(pid)) for pid in log.read_text().split()]
    finally:
        harness.kill()
        harness.wait()
    gone, alive = psutil.wait_procs(children, timeout=10)
    for process in alive:
        process.kill()
    assert len(gone) == 2


def test_an_edited_plugin_is_another_run(make_plan, tmp_path, plugin) -> None:
    edited = tmp_path / "zoo.py"
    edited.write_text(plugin.read_text() + "\n# changed\n")
    suite = make_suite("annotation", ["healthy"])
    ids = {make_plan(suite, plugin=path).runs[0].run_id for path in (plugin, edited)}
    assert len(ids) == 2


def test_cancelling_ends_runs_in_flight_and_keeps_finished_records(
    make_plan, small, silent, tmp_path
) -> None:
    suite = make_suite("annotation", ["healthy", "sleeps"], time_limit_s=300)
    executor = Executor(store=Store.create(tmp_path, suite), n_jobs=2)
    before = threading.active_count()  # other tests may have left some
    records: Iterator[RunRecord] = executor.execute(make_plan(suite), datasets=small, progress=silent)
    assert next(records).method.method_id == "healthy"
    records.close()  # what Ctrl-C does to the loop
    assert [record.method.method_id for record in executor.store.records()] == ["healthy"]
    assert threading.active_count() <= before


def test_a_full_disk_is_said_plainly(make_plan, small, silent, tmp_path, monkeypatch) -> None:
    suite = make_suite("annotation", ["healthy"])
    store = Store.create(tmp_path, suite)

    def full(record: RunRecord, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cellular_bench.benchmark.results.store.write_record", full)
    executor = Executor(store=store, n_jobs=1)
    with pytest.raises(UserError, match=r"No space left on device\. Records written so far are intact"):
        list(executor.execute(make_plan(suite), datasets=small, progress=silent))


@pytest.fixture
def disk_of_5_mb(tmp_path) -> Iterator[Path]:
    """A file system of 5 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by the administrator of a Linux machine only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_outputs_that_do_not_fit_fail_alone(execute, disk_of_5_mb) -> None:
    suite = make_suite("integration", ["bulky", "pca"])
    records = execute(disk_of_5_mb / "out", suite)
    assert {name: record.status for name, record in records.items()} == {"pca": "ok", "bulky": "failed"}
    assert "could not be written" in records["bulky"].reason
    assert "No space left on device" in records["bulky"].log_tail


def test_a_folder_that_has_become_read_only_keeps_its_records(
    execute, make_plan, small, silent, disk_of_5_mb
) -> None:
    root = disk_of_5_mb / "out"
    execute(root, make_suite("annotation", ["healthy"]))
    before = list(Store.open(root).records())
    store, more = Store.open(root), make_plan(make_suite("annotation", ["raises"]))
    subprocess.run(["mount", "-o", "remount,ro", str(disk_of_5_mb)], check=True)
    with pytest.raises(UserError, match=r"cannot be written: Read-only file system\."):
        Store.create(root, more.suite)
    runs = Executor(store=store).execute(more, datasets=small, progress=silent)
    with pytest.raises(UserError, match=r"Read-only file system\. Records written so far are intact"):
        list(runs)
    assert list(store.records()) == before != []


def test_records_follow_the_published_schema(zoo, tmp_path) -> None:
    suite = make_suite("annotation", ["healthy"])
    Store.create(tmp_path, suite)
    schema = json.loads((tmp_path / "run-record.schema.json").read_text())
    fields = json.loads(zoo["healthy"].model_dump_json())
    assert set(schema["properties"]) == set(fields)
    assert set(schema["required"]) <= set(fields)


def test_embeddings_are_kept_beside_the_record(execute, tmp_path, dataset) -> None:
    suite = make_suite("integration", ["pca"])
    execute(tmp_path, suite)
    store = Store.open(tmp_path)
    outputs = read_outputs(store.run_folder(next(store.records()).run_id) / "outputs.npz")
    assert outputs.X_emb.shape == (300, 50)
    assert np.array_equal(outputs.obs_names, dataset.adata.obs_names.to_numpy(dtype=str))


def test_graphs_and_corrected_expression_are_kept_scored_and_scored_again_alike(execute, tmp_path) -> None:
    records = execute(tmp_path, make_suite("integration", ["links", "doubled"]))
    values = {name: {s.metric_id: s.value for s in record.scores} for name, record in records.items()}
    assert values["links"]["silhouette_label"] is None
    assert values["links"]["leiden_nmi"] > 0.5
    assert values["links"]["clisi"] > 0.9
    # A factor changes no correlation and no order of genes, if cells and genes are those that are scored.
    assert values["doubled"]["gene_correlation_kept"] == pytest.approx(1.0, abs=1e-6)
    assert values["doubled"]["fold_change_kept"] == pytest.approx(1.0, abs=1e-6)
    assert values["doubled"]["hvg_overlap"] > 0.98
    assert values["doubled"]["silhouette_label"] > 0.5
    store = Store.open(tmp_path)
    for record in records.values():
        assert rescore(store, record).scores == record.scores
        assert record.per_group
        assert rescore(store, record).per_group == record.per_group


def test_the_environment_of_the_caller_is_left_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert call(print, limits=Limits(), log=tmp_path / "log.txt").status == "ok"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "NUMBA_NUM_THREADS" not in os.environ


def test_exit_codes_are_right_while_other_threads_look_after_processes(tmp_path) -> None:
    limits = Limits(time_limit_s=60, memory_limit_mib=4096)
    stop = threading.Event()

    def look_around() -> None:
        while not stop.is_set():
            multiprocessing.active_children()

    other = threading.Thread(target=look_around)
    other.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(call, print, limits=limits, log=tmp_path / f"{i}.txt") for i in range(60)]
            ends = Counter(call.result().reason for call in calls)
    finally:
        stop.set()
        other.join()
    assert ends == {None: 60}
