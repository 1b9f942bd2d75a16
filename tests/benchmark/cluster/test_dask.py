"""Runs on real Dask workers of this machine: equal to local ones, and tried again where a worker is lost."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from cellular_bench.benchmark.cluster.dask import Cluster, connect
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.isolation import sandbox
from cellular_bench.benchmark.plan.run import Plan
from cellular_bench.benchmark.results.progress import Running
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.executor import ExecutorConfig, read_executor
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.errors import BenchError, UserError

pytest.importorskip("distributed")

KFOLD = {"kind": "kfold", "n_splits": 2}


class Dask:
    """A scheduler and workers as processes of their own, on 127.0.0.1."""

    def __init__(self, folder: Path, wait_for: Callable[..., None]) -> None:
        self.file = folder / "scheduler.json"
        self.log = (folder / "dask.log").open("w")
        self.workers: list[subprocess.Popen] = []
        self.scheduler = self._start("dask_scheduler", "--port", "0", "--no-dashboard")
        wait_for(lambda: self.file.exists() and self.file.stat().st_size > 0)
        self.address = json.loads(self.file.read_text())["address"]

    def _start(self, program: str, *options: str, before: tuple[str, ...] = ()) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.{program}", "--scheduler-file", str(self.file)]
        command += ["--host", "127.0.0.1", *options]
        return subprocess.Popen([*before, *command], stdout=self.log, stderr=self.log)

    def add_worker(self, *options: str, before: tuple[str, ...] = ()) -> subprocess.Popen:
        options = ("--nthreads", "1", "--no-dashboard", *options)
        self.workers.append(self._start("dask_worker", *options, before=before))
        return self.workers[-1]

    def wait(self) -> None:
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=180)

    def close(self) -> None:
        for process in [*self.workers, self.scheduler]:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def dask(wait_for, tmp_path_factory) -> Iterator[Dask]:
    running = Dask(tmp_path_factory.mktemp("dask"), wait_for)
    try:
        running.add_worker("--nanny")
        running.add_worker("--nanny")
        running.wait()
        yield running
    finally:
        running.close()


def config(dask: Dask, **more: object) -> ExecutorConfig:
    return ExecutorConfig(kind="dask", scheduler=dask.address, **more)


@pytest.fixture
def run_on(small, silent) -> Callable[..., dict[str, RunRecord]]:
    """Carry a plan out on a cluster; return the records by run."""

    def run(cluster: Cluster, plan: Plan, root: Path) -> dict[str, RunRecord]:
        executor = Executor(store=Store.create(root, plan.suite), n_jobs=4, carry_out=cluster.carry_out)
        records = executor.execute(plan, datasets=small, progress=silent)
        return {record.run_id: record for record in records}

    return run


def test_a_cluster_gives_the_records_of_one_machine(run_on, dask, planned, carried_out, tmp_path) -> None:
    plan = planned("healthy", "raises", "random_label", split=KFOLD, time_limit_s=300)
    here = carried_out(plan, tmp_path / "here")
    with connect(config(dask), logs=tmp_path) as cluster:
        assert cluster.n_slots == 2
        there = run_on(cluster, plan, tmp_path / "there")
    assert len(there) == 6
    for record in here.records():
        other = there[record.run_id]
        assert (other.status, other.scores) == (record.status, record.scores)
        assert other.confusion == record.confusion
        assert other.environment.command_line == tuple(sys.argv)
        if record.outputs:
            assert other.outputs == record.outputs


def worker_of(store: Store, run_id: str) -> int | None:
    try:
        return Running.model_validate_json((store.run_folder(run_id) / "running.json").read_bytes()).pid
    except (OSError, ValidationError):
        return None


def kill_workers(wait_for: Callable[..., None], store: Store, run_id: str, times: int) -> None:
    """Kill the worker that a run is on as often as it comes up again."""
    before: set[int] = set()
    for _ in range(times):
        wait_for(lambda: worker_of(store, run_id) not in {None, *before})
        before.add(worker_of(store, run_id))
        time.sleep(1)  # what it said of beginning is on its way: a try that nobody heard of is not counted
        os.kill(worker_of(store, run_id), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "status", "time_limit_s"),
    [(1, "timeout", 15), (2, "failed", 300)],
)
def test_a_run_whose_worker_is_killed_is_tried_again_on_another(
    run_on, wait_for, dask, planned, tmp_path, kills: int, status: str, time_limit_s: float
) -> None:
    plan = planned("sleeps", time_limit_s=time_limit_s)
    run_id = plan.runs[0].run_id
    store = Store.create(tmp_path / "out", plan.suite)
    killer = threading.Thread(target=kill_workers, args=(wait_for, store, run_id, kills))
    killer.start()
    with connect(config(dask, retries=1), logs=tmp_path) as cluster:
        (record,) = run_on(cluster, plan, store.root).values()
    killer.join()
    assert record.status == status, record.reason
    if kills == 2:
        assert "The worker was lost 2 times while it carried out this run" in record.reason
    assert store.record(run_id) == record


@pytest.mark.slow
def test_stopping_ends_the_runs_on_the_workers_and_keeps_what_is_done(
    silent, wait_for, dask, planned, small, tmp_path
) -> None:
    plan = planned("healthy", "sleeps", time_limit_s=300)
    done, asleep = (run.run_id for run in plan.runs)
    store = Store.create(tmp_path / "out", plan.suite)
    with connect(config(dask), logs=tmp_path) as cluster:
        executor = Executor(store=store, n_jobs=2, carry_out=cluster.carry_out)
        records = executor.execute(plan, datasets=small, progress=silent)
        first = next(records)
        wait_for(lambda: worker_of(store, asleep) is not None)
        worker = psutil.Process(worker_of(store, asleep))
        wait_for(lambda: _sleepers(worker))
        records.close()  # as Ctrl-C does
        wait_for(lambda: not _sleepers(worker), seconds=30)
    assert worker.is_running(), "the worker itself is not ours to end"
    assert (first.run_id, first.status) == (done, "ok")
    assert store.record(done) == first
    assert store.record(asleep) is None


def _sleepers(worker: psutil.Process) -> list[psutil.Process]:
    """Return the supervisors of a worker's runs: children of its server of processes."""
    return [below for child in worker.children() for below in child.children()]


@pytest.mark.slow
def test_a_lost_scheduler_is_said_plainly_and_what_is_done_stays(
    silent, wait_for, planned, small, tmp_path
) -> None:
    plan = planned("healthy", "sleeps", time_limit_s=300)
    store = Store.create(tmp_path / "out", plan.suite)
    running = Dask(tmp_path, wait_for)
    try:
        running.add_worker("--no-nanny")
        running.add_worker("--no-nanny")
        running.wait()
        with (
            pytest.raises(
                BenchError, match=r"The Dask scheduler is gone\. Records written so far are intact"
            ),
            connect(config(running), logs=tmp_path) as cluster,
        ):
            executor = Executor(store=store, n_jobs=2, carry_out=cluster.carry_out)
            records = executor.execute(plan, datasets=small, progress=silent)
            first = next(records)
            wait_for(lambda: worker_of(store, plan.runs[1].run_id) is not None)
            running.scheduler.kill()
            next(records)
    finally:
        running.close()
    assert store.record(plan.runs[0].run_id) == first
    assert store.record(plan.runs[1].run_id) is None


@pytest.fixture
def blind(wait_for, tmp_path_factory) -> Iterator[Dask]:
    """A worker that has another, empty folder where the harness has its results."""
    hidden = tmp_path_factory.mktemp("hidden")
    mount = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "sh")
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a view of the disk of its own can be given by the administrator of a Linux machine only")
    running = Dask(tmp_path_factory.mktemp("blind"), wait_for)
    running.hidden = hidden
    try:
        running.add_worker("--no-nanny", before=mount)
        running.wait()
        yield running
    finally:
        running.close()


@pytest.mark.slow
def test_results_are_sent_back_from_a_worker_that_does_not_see_the_folder(
    run_on, blind, planned, carried_out, tmp_path
) -> None:
    plan = planned("healthy", "raises", split=KFOLD, time_limit_s=300)
    here = carried_out(plan, tmp_path / "here")
    with connect(config(blind), logs=tmp_path) as cluster:
        there = run_on(cluster, plan, blind.hidden / "out")
    store = Store.open(blind.hidden / "out")
    for record in here.records():
        other = there[record.run_id]
        assert (other.status, other.scores, other.outputs) == (record.status, record.scores, record.outputs)
        assert store.record(record.run_id) == other
        kept, local = (folder.run_folder(record.run_id) for folder in (store, here))
        assert sorted(path.name for path in kept.iterdir()) == sorted(path.name for path in local.iterdir())


#: A worker that carries runs out, and then does not say what came of them.
LIAR = """
import json, pathlib
from cellular_bench.benchmark.cluster import worker
from cellular_bench.benchmark.isolation import sandbox

MODE = pathlib.Path({mode!r})
honest = worker.honest = getattr(worker, "honest", worker.carry_out)  # Dask loads this file twice

def carry_out(run, *more):
    mode = MODE.read_text()
    kind = "landlock" if "landlock" not in sandbox.best().missing else "process"
    sandbox.best = lambda: sandbox.Found(kind=kind, description="another")
    if mode == "apart" and more[2] is None:
        raise worker.NotSharedError("not seen")
    answer = honest(run, *more)
    record = json.loads(answer["record.json"])
    record |= {{"run": dict(run_id="../../x"), "seed": dict(seed=99)}}.get(mode, dict())
    changed = dict(
        honest=answer, apart=answer, list=[1], empty=dict(), text=dict(answer, **{{"record.json": "text"}}),
        garbage={{"record.json": b"\\xff"}}, run={{"record.json": json.dumps(record).encode()}},
        seed={{"record.json": json.dumps(record).encode()}}, up={{**answer, "../../x": b"x"}},
        absolute={{**answer, {outside!r}: b"x"}}, above={{**answer, "artifacts/../../../x": b"x"}},
        other={{**answer, "running.json": b"x"}}, outputs={{**answer, "outputs.npz": b"x"}},
    )
    return changed[mode]

worker.carry_out = carry_out
"""


@pytest.fixture(scope="module")
def liar(wait_for, tmp_path_factory) -> Iterator[tuple[Dask, Path, Path]]:
    """A worker whose answer and sandbox are another's, with the file that says how it answers."""
    folder = tmp_path_factory.mktemp("liar")
    mode, outside = folder / "mode", folder / "outside"
    (folder / "liar.py").write_text(LIAR.format(mode=str(mode), outside=str(outside)), encoding="utf-8")
    running = Dask(folder, wait_for)
    try:
        running.add_worker("--no-nanny", "--preload", str(folder / "liar.py"))
        running.wait()
        yield running, mode, outside
    finally:
        running.close()


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("list", "sent no record"),
        ("empty", "sent no record"),
        ("text", "sent no record"),
        ("garbage", "sent no record"),
        ("run", "(sent no record|record of another run)"),
        ("seed", "the record of another run than .*: seed differ"),
        ("up", "sent '../../x' among the files"),
        ("absolute", "sent '/.*/outside' among the files"),
        ("above", "sent 'artifacts/../../../x' among the files"),
        ("other", "sent 'running.json' among the files"),
        ("outputs", "sent other outputs of"),
    ],
)
def test_what_a_worker_answers_is_checked(run_on, liar, planned, tmp_path, mode, reason) -> None:
    running, file, outside = liar
    file.write_text(mode)
    plan = planned("healthy", time_limit_s=300)
    with (
        connect(config(running), logs=tmp_path) as cluster,
        pytest.raises(
            BenchError, match=f"A worker {reason}" if reason[0] != "t" else f"A worker sent {reason}"
        ),
    ):
        run_on(cluster, plan, tmp_path / "out" / "there")
    assert not outside.exists() and not [*tmp_path.rglob("x")]
    assert Store.open(tmp_path / "out" / "there").record(plan.runs[0].run_id) is None


@pytest.mark.parametrize("mode", ["honest", "apart"])
def test_a_record_names_the_sandbox_of_its_worker(run_on, liar, planned, tmp_path, mode) -> None:
    running, file, _ = liar
    file.write_text(mode)
    (before,) = (set(Path(tempfile.gettempdir()).glob("cellular-bench-*/tmp*")),)
    with connect(config(running), logs=tmp_path) as cluster:
        (record,) = run_on(cluster, planned("healthy", time_limit_s=300), tmp_path / "out").values()
    assert record.status == "ok", record.reason
    other = "landlock" if "landlock" not in sandbox.best().missing else "process"
    assert record.environment.isolation == other
    folder = Store.open(tmp_path / "out").run_folder(record.run_id)
    assert (folder / "outputs.npz").exists()
    mine = {
        path for path in Path(tempfile.gettempdir()).glob("cellular-bench-*/tmp*") if (path / "data").exists()
    }
    assert not mine - before, "what was sent is removed"


PLUGIN = """
import os
from pathlib import Path

import numpy as np

from cellular_bench import MethodSpec

with open(Path(__file__).with_name("imports.txt"), "a") as file:
    file.write(f"{os.getpid()}\\n")


class Counts:
    spec = MethodSpec(method_id="counted", name="Counted", tasks=("integration",))

    def __init__(self, *, seed=0):
        pass

    def fit_embed(self, adata):
        return np.asarray(adata.X.toarray()) / 2
"""


def test_a_worker_imports_no_plugin(run_on, dask, planned, tmp_path) -> None:
    path = tmp_path / "counted.py"
    path.write_text(PLUGIN, encoding="utf-8")
    plan = planned("counted", task="integration", plugin=path, time_limit_s=300).without_sandbox()
    (tmp_path / "imports.txt").unlink()
    with connect(config(dask), logs=tmp_path) as cluster:
        (record,) = run_on(cluster, plan, tmp_path / "out").values()
    assert record.status == "ok", record.reason
    workers = {child.pid for process in dask.workers for child in psutil.Process(process.pid).children()}
    imported = {int(line) for line in (tmp_path / "imports.txt").read_text().split()}
    assert imported and not imported & {os.getpid(), *workers}


def test_a_scheduler_that_is_not_there_is_said_plainly(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("cellular_bench.benchmark.cluster.dask.CONNECT_S", 0.5)
    nobody = ExecutorConfig(kind="dask", scheduler="tcp://127.0.0.1:1")
    with pytest.raises(UserError, match="No Dask scheduler answers at"), connect(nobody, logs=tmp_path):
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[workers]]\nmemory = "1GB"\ncolour = "red"', "workers.0.colour: there is no such entry"),
        ("retries = 1", "kind 'slurm' needs a table [[workers]]"),
        ('[[workers]]\nmethods = ["pca"]', "one class of workers must have no methods"),
        ("[[workers]]\n[[workers]]", "two classes of workers have the same name"),
        ('kind = "dask"', "kind 'dask' needs scheduler"),
        ("workers = ", "is not valid TOML"),
    ],
)
def test_a_wrong_file_names_the_field(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "slurm.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_executor(path)
    assert message in str(caught.value)


def test_runs_go_to_the_class_that_names_their_method_or_suits_them() -> None:
    workers = [{"name": "cpu"}, {"name": "gpu", "gpus": 2}, {"name": "big", "methods": ["scanorama"]}]
    chosen = ExecutorConfig(kind="slurm", workers=workers)
    assert chosen.class_of("pca", gpu=False) == "cpu"
    assert chosen.class_of("scvi", gpu=True) == "gpu"
    assert chosen.class_of("scanorama", gpu=True) == "big"
    assert ExecutorConfig(kind="slurm", workers=workers[:1]).class_of("scvi", gpu=True) == "cpu"
    assert [group.slots for group in chosen.workers] == [1, 2, 1]
