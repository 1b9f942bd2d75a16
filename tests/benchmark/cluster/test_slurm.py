"""Runs as jobs of a real Slurm system of one node: equal to local ones, and honest when Slurm ends a job."""

import asyncio
import os
import shutil
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cellular_bench.benchmark.cluster.dask import connect
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.executor import ExecutorConfig
from cellular_bench.core.errors import UserError

pytest.importorskip("dask_jobqueue")
pytest.importorskip("cryptography")
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


def listeners(process: psutil.Process) -> set[tuple[str, int]]:
    found = process.net_connections("inet")
    return {(each.laddr.ip, each.laddr.port) for each in found if each.status == psutil.CONN_LISTEN}


def answer(port: int, *, with_tls: bool) -> bytes:
    """Send a greeting to a port, without a certificate; return what comes back."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=2) as plain:
        try:
            with context.wrap_socket(plain) if with_tls else plain as connection:
                connection.sendall(bytes(64))
                return connection.recv(64)
        except (ssl.SSLError, ConnectionError, TimeoutError):
            return b""


def is_let_in(address: str, security: object) -> bool:
    """Whether a client of Dask gets through the greeting of a scheduler or worker."""
    from distributed.core import connect as connect_to

    async def knock() -> None:
        arguments = security.get_connection_args("client") if security else {}
        comm = await asyncio.wait_for(connect_to(address, timeout=1, **arguments), 5)
        comm.abort()

    try:
        asyncio.run(knock())
    except (OSError, TimeoutError):
        return False
    return True


def test_only_its_jobs_reach_a_scheduler(slurm, wait_for, tmp_path) -> None:
    """Attack: whoever reaches the scheduler or a worker could have code run there."""
    from distributed.security import Security

    group = {"partition": "tests", "interface": "lo", "memory": "1500MB", "walltime": "00:10:00"}
    config = ExecutorConfig(kind="slurm", workers=[group])
    before = listeners(psutil.Process())
    with connect(config, logs=tmp_path) as cluster:
        assert cluster.n_slots == 1
        opened = listeners(psutil.Process()) - before
        assert {address for address, _ in opened} == {"127.0.0.1"}

        def workers() -> list[psutil.Process]:
            return [each for each in psutil.process_iter() if str(tmp_path) in " ".join(cmdline(each))]

        wait_for(lambda: any(map(listeners, workers())))
        opened |= set().union(*map(listeners, workers()))
        assert {address for address, _ in opened} == {"127.0.0.1"}
        for _, port in opened:
            assert answer(port, with_tls=True) == b""
            assert not answer(port, with_tls=False).startswith(b"HTTP/1.1 200")
            for scheme, stranger in (("tcp", None), ("tls", Security.temporary())):
                assert not is_let_in(f"{scheme}://127.0.0.1:{port}", stranger)
        (folder,) = tmp_path.glob(".tls-*")
        key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
        ours = Security(tls_ca_file=cert, tls_client_key=key, tls_client_cert=cert)
        assert any(is_let_in(f"tls://127.0.0.1:{port}", ours) for _, port in opened)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
        assert modes == {folder.name: 0o700, "key.pem": 0o600, "cert.pem": 0o600}
    assert not list(tmp_path.glob(".tls-*")), "no key is left"
    assert listeners(psutil.Process()) <= before
    # Slurm ends the job in its own time; it must not be shut down before.
    wait_for(lambda: not workers())


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_an_interface_that_is_not_there_is_said(tmp_path) -> None:
    config = ExecutorConfig(kind="slurm", workers=[{"interface": "nothere0"}])
    refused = pytest.raises(UserError, match="interface 'nothere0' of workers is not on this machine")
    with refused, connect(config, logs=tmp_path):
        pass


def test_a_request_that_slurm_does_not_take_is_said_plainly(slurm, tmp_path) -> None:
    config = ExecutorConfig(kind="slurm", workers=[{"partition": "no-such-partition", "interface": "lo"}])
    refused = pytest.raises(UserError, match=r"(?s)Slurm does not take these jobs: .*partition")
    with refused, connect(config, logs=tmp_path):
        pass
