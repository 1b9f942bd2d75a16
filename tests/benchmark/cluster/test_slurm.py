"""Runs as jobs of a real Slurm system of one node: equal to local ones, and honest when Slurm ends a job."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellular_bench.benchmark.cluster.dask import connect
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.executor import ExecutorConfig
from cellular_bench.core.errors import UserError

pytest.importorskip("dask_jobqueue")
pytestmark = [pytest.mark.slow, pytest.mark.slurm]

HERE = Path(__file__).parent


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[str]:
    """Start a Slurm system; its configuration file is in the environment of what is started here."""
    missing = [name for name in ("slurmctld", "slurmd", "munged") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(
            f"needs {', '.join(missing) or 'the rights of the administrator'}: "
            "apt-get install slurm-wlm munge, and run as root"
        )
    folder = tmp_path_factory.mktemp("slurm")
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        up = [HERE / "slurm_up.sh", folder, free_port(), free_port()]
        started = subprocess.run(up, capture_output=True, text=True, check=False)
        if started.returncode:
            pytest.skip(f"Slurm does not start on this machine: {started.stderr[-2000:]}")
        yield os.environ["SLURM_CONF"]
    finally:
        subprocess.run([HERE / "slurm_down.sh", folder], check=True)
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


SUITE = """
title = "Twelve runs"
[[blocks]]
task = "annotation"
datasets = ["simulated_small"]
methods = ["nearest_centroid", "random_label", "majority_label"]
splits = [{ kind = "kfold", n_splits = 2 }]
seeds = [0, 1]
"""
WORKERS = """
[[workers]]
partition = "tests"
interface = "lo"
memory = "1500MB"
walltime = "00:20:00"
jobs = 2
"""


def test_twelve_runs_as_slurm_jobs_have_the_scores_of_this_machine(run_benchmark, slurm, tmp_path) -> None:
    (tmp_path / "twelve.toml").write_text(SUITE)
    (tmp_path / "slurm.toml").write_text(WORKERS)
    common = ("--suite", tmp_path / "twelve.toml", "--no-figures", "--out")
    here = run_benchmark("run", *common, tmp_path / "here")
    assert here.returncode == 0, here.stdout + here.stderr
    there = run_benchmark("run", *common, tmp_path / "there", "--slurm-config", tmp_path / "slurm.toml")
    assert there.returncode == 0, there.stdout + there.stderr
    assert "12 runs, 12 to do, 2 at a time" in there.stdout
    expected, found = (
        {record.run_id: record for record in Store.open(tmp_path / name).records()}
        for name in ("here", "there")
    )
    assert len(found) == 12
    assert {run_id: record.scores for run_id, record in found.items()} == {
        run_id: record.scores for run_id, record in expected.items()
    }
    assert list((tmp_path / "there" / "jobs").glob("*.out")), "what the jobs print is kept"
    queue = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True)
    assert queue.stdout.strip() == "", "no job outlives the benchmark"


def test_jobs_that_slurm_ends_become_records_that_say_so(silent, slurm, planned, small, tmp_path) -> None:
    """Two jobs: one may use less memory than its run does, one ends before its run would."""
    from cellular_bench.benchmark.execution.executor import Executor

    common = {"partition": "tests", "interface": "lo", "memory": "1500MB"}
    config = ExecutorConfig(
        kind="slurm",
        retries=0,
        workers=[
            {**common, "name": "short", "walltime": "00:01:00", "methods": ["sleeps"]},
            {**common, "name": "small"},
        ],
    )
    plan = planned("sleeps", "allocates", time_limit_s=3000, memory_limit_mib=15000)
    store = Store.create(tmp_path / "out", plan.suite)
    with connect(config, logs=tmp_path / "jobs") as cluster:
        executor = Executor(store=store, n_jobs=2, carry_out=cluster.carry_out)
        records = {r.method.method_id: r for r in executor.execute(plan, datasets=small, progress=silent)}
    slept, allocated = records["sleeps"], records["allocates"]
    assert slept.status == "failed"
    assert "The worker was lost once while it carried out this run" in slept.reason
    assert slept.reason.endswith("ended as TIMEOUT."), slept.reason
    assert allocated.status == "out_of_memory", allocated.reason
    assert "Its Slurm job" in allocated.reason
    assert not list(store.root.glob("runs/*/running.json"))
    assert {record.run_id for record in store.records()} == {run.run_id for run in plan.runs}


def test_a_request_that_slurm_does_not_take_is_said_plainly(slurm, tmp_path) -> None:
    config = ExecutorConfig(kind="slurm", workers=[{"partition": "no-such-partition", "interface": "lo"}])
    refused = pytest.raises(UserError, match=r"(?s)Slurm does not take these jobs: .*partition")
    with refused, connect(config, logs=tmp_path):
        pass
