"""Runs on the workers of Dask clusters: one that is there already, or jobs of a Slurm system.

Every run is one task, and on its worker a child process with the same limits and the same record
as on one machine. What a lost worker was doing is done again on another one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cellular_bench.benchmark.cluster import worker
from cellular_bench.benchmark.execution.job import Job
from cellular_bench.benchmark.execution.run import recorded, tail
from cellular_bench.benchmark.isolation.call import CancelledError, command_line
from cellular_bench.benchmark.plan.run import PlannedRun
from cellular_bench.benchmark.results.store import (
    OUTPUTS,
    PLAN,
    RECORD,
    RUN_LOG,
    RUNNING,
    SUITE,
    Store,
    describe_bytes,
)
from cellular_bench.benchmark.schema.executor import ExecutorConfig, WorkerClass
from cellular_bench.benchmark.schema.records import Outcome, Run, RunRecord, Status
from cellular_bench.core.errors import BenchError, UserError
from cellular_bench.core.files import below, folder_below, write_atomically
from cellular_bench.core.toml import explain

if TYPE_CHECKING:
    from distributed import Client, Future
    from distributed.security import Security

#: How often a waiting run looks whether it was cancelled, and how often lost jobs are asked for again.
LOOK_S, RENEW_S = 0.5, 5.0
#: How long a scheduler may take to answer.
CONNECT_S = 10.0
#: How long a batch system may take to say how a job ended.
ACCOUNTING_S = 15.0
#: Slurm's word for a job that it ended because memory ran out.
_OUT_OF_MEMORY = "OUT_OF_MEMORY"


class _LostError(Exception):
    """The worker of a run is gone."""


@dataclass(slots=True, kw_only=True)
class _Workers:
    """One class of workers: how to reach them, and how to ask for as many as there should be."""

    client: Client
    n_slots: int
    resources: Mapping[str, float] = field(default_factory=dict)
    cluster: Any = None
    jobs: int = 0
    renewed: float = 0.0
    #: Files that were sent to them, by path below the result folder.
    sent: dict[str, Future] = field(default_factory=dict)

    def renew(self) -> None:
        """Ask for jobs in the place of lost ones."""
        if self.cluster is not None and time.monotonic() - self.renewed > RENEW_S:
            self.renewed = time.monotonic()
            self.cluster.scale(self.jobs)


class Cluster:
    """Carries out runs on workers; its :meth:`carry_out` stands for that of this machine."""

    def __init__(self, workers: Mapping[str, _Workers], config: ExecutorConfig) -> None:
        self._workers = workers
        self._config = config
        self._begun: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._is_apart = False
        self._lock = threading.Lock()
        for group in workers.values():
            group.client.subscribe_topic(worker.TOPIC, self._hear)

    @property
    def n_slots(self) -> int:
        """Runs that all workers together can carry out at a time."""
        return sum(group.n_slots for group in self._workers.values())

    def carry_out(
        self, run: PlannedRun, store: Store, *, cancelled: threading.Event | None = None
    ) -> RunRecord:
        """Carry out a run on a worker; where its workers are lost too often, the record says so.

        Raises
        ------
        BenchError
            If the scheduler is gone, or workers cannot carry out runs at all.
        """
        started_at = datetime.now(UTC)
        name = self._config.class_of(run.method.method_id, gpu=run.gpu) if self._config.workers else ""
        group = self._workers[name]
        while True:
            try:
                answer = self._try(run, store, group, cancelled)
            except worker.NotSharedError:
                self._is_apart = True  # from now on, every worker gets what it needs sent
            except (_LostError, worker.WorkerDiskError) as error:
                if len(self._begun[run.run_id]) > self._config.retries:
                    return self._lost(run, store, started_at, str(error))
            else:
                return _kept(answer, run, store)

    def _try(
        self, run: PlannedRun, store: Store, group: _Workers, cancelled: threading.Event | None
    ) -> object:
        inputs, plugins = self._inputs(run, store, group) if self._is_apart else (None, {})
        before = len(self._begun[run.run_id])
        future = group.client.submit(
            worker.carry_out,
            run,
            store.root,
            PLAN if (store.root / PLAN).exists() else SUITE,  # a worker that sees it sees the result folder
            inputs,
            plugins,
            key=f"{run.run_id}-{uuid.uuid4().hex[:8]}",
            pure=False,
            resources=dict(group.resources) if run.gpu else None,
        )
        try:
            return self._wait(future, run, group, cancelled)
        except _LostError:
            if len(self._begun[run.run_id]) == before:  # lost before it could say where it began
                self._begun[run.run_id].append({})
            raise
        finally:
            future.cancel()

    def _wait(
        self, future: Future, run: PlannedRun, group: _Workers, cancelled: threading.Event | None
    ) -> object:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        while True:
            try:
                return future.result(timeout=LOOK_S)
            except TimeoutError as error:
                if future.status == "error":  # the run's own, not that of waiting
                    raise BenchError(f"A worker could not carry out {run.run_id}: {error}") from error
                group.renew()
                if cancelled is not None and cancelled.is_set():
                    raise CancelledError from None
                # A worker that says good-bye before it goes has its run begun again by the scheduler.
                if len(self._begun[run.run_id]) > self._config.retries + 1:
                    self._begun[run.run_id].pop()
                    raise _LostError("") from None
            except KilledWorker:
                raise _LostError("") from None
            except FutureCancelledError as error:
                if group.client.status != "running":
                    raise BenchError(
                        "The Dask scheduler is gone. Records written so far are intact; start a cluster, "
                        "then run the same command again."
                    ) from error
                group.sent.clear()  # what had been sent is gone with the worker that held it
                raise _LostError(str(error)) from error
            except (BenchError, OSError):
                raise
            except Exception as error:
                raise BenchError(
                    f"A worker could not carry out {run.run_id}: {type(error).__name__}: {error}. Workers "
                    "need this version of cellular-bench and of the packages of its methods."
                ) from error

    def _inputs(
        self, run: PlannedRun, store: Store, group: _Workers
    ) -> tuple[dict[str, Future], dict[str, bytes]]:
        """Send the files that a run reads, each once per class of workers."""
        split = store.split_folder(run.dataset, run.split)
        views = Job(run=run, store=store).visible_files
        paths = [store.data_file(run.dataset), *sorted(split.glob("*.npz")), *views]
        inputs = {}
        for path in paths:
            name = str(path.relative_to(store.root))
            with self._lock:
                if name not in group.sent:
                    group.sent[name] = group.client.scatter(path.read_bytes(), hash=False)
                inputs[name] = group.sent[name]
        plugins = dict.fromkeys((*run.plugins, *run.metric_plugins))
        return inputs, {str(path): path.read_bytes() for path in plugins}

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        self._begun[event[1]["run_id"]].append(event[1])

    def _lost(self, run: PlannedRun, store: Store, started_at: datetime, why: str) -> RunRecord:
        """Say in a record that the workers of a run were lost, and what the batch system says of the last."""
        begun = self._begun[run.run_id]
        last = begun[-1]
        end = job_end(last["job"]) if last.get("job") else None
        times = "once" if len(begun) == 1 else f"{len(begun)} times"
        place = f", the last time on {last['host']}" if last else ""
        reason = f"The worker was lost {times} while it carried out this run{place}."
        if end:
            memory = f" ({end.memory})" if end.memory else ""
            reason += f" Its Slurm job {last['job']} ended as {end.state}{memory}."
        if why:
            reason += f" {why}"
        status: Status = "out_of_memory" if end and end.is_out_of_memory else "failed"
        folder = store.run_folder(run.run_id)
        (folder / RUNNING).unlink(missing_ok=True)  # its worker cannot do that any more
        outcome = Outcome(status=status, reason=reason, log_tail=tail(folder / RUN_LOG))
        return recorded(run, outcome, started_at=started_at)


def _kept(answer: object, run: PlannedRun, store: Store) -> RunRecord:
    """Write what a worker sent back; its record names the command line of this process, not its own.

    Raises
    ------
    BenchError
        If the answer is not that of the run: nothing of it is kept then.
    """
    files = worker.checked(answer, run.run_id)
    record = _record(files.pop(RECORD), run)
    if files:  # it does not share the folder
        if (describe_bytes(files[OUTPUTS]) if OUTPUTS in files else None) != record.outputs:
            raise BenchError(f"A worker sent other outputs of {run.run_id} than those that it scored.")
        folder = store.clear_run(run.run_id)
        for name, content in files.items():
            *above, _ = parts = name.split("/")
            folder_below(folder, *above)
            write_atomically(below(folder, *parts), content)
    environment = record.environment.model_copy(update={"command_line": command_line()})
    return record.model_copy(update={"environment": environment})


def _record(content: bytes, run: PlannedRun) -> RunRecord:
    """Return a record that says of its run what was asked for, and no more than a worker can know."""
    try:
        record = RunRecord.model_validate_json(content)
    except ValidationError as error:
        raise BenchError(f"A worker sent no record of {run.run_id}: {explain(error)}") from error
    sent, asked = (one.model_dump(mode="json", include=set(Run.model_fields)) for one in (record, run))
    differing = sorted(name for name in asked if sent[name] != asked[name])
    if differing:
        raise BenchError(
            f"A worker sent the record of another run than {run.run_id}: {', '.join(differing)} differ."
        )
    return record


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How a Slurm job ended: its state in Slurm's words, and what its log says of memory."""

    state: str
    memory: str = ""

    @property
    def is_out_of_memory(self) -> bool:
        """Whether Slurm ended it because memory ran out."""
        return self.state == _OUT_OF_MEMORY or bool(self.memory)


def job_end(job_id: str) -> JobEnd | None:
    """Return how a Slurm job ended; None if Slurm does not say.

    Where Slurm counts memory through control groups, the state says that it ran out. Where it looks at
    processes, the state is ``FAILED`` and only the job's log has the reason.
    """
    if shutil.which("scontrol") is None:
        return None
    deadline = time.monotonic() + ACCOUNTING_S
    while True:
        done = _slurm("scontrol", "show", "job", "-o", job_id)
        state = re.search(r"\bJobState=(\w+)", done.stdout)
        if state is None:
            return None
        if state[1] not in ("RUNNING", "COMPLETING") or time.monotonic() > deadline:
            log = re.search(r"\bStdErr=(\S+)", done.stdout)
            path = log[1].replace("%J", job_id) if log else ""  # Slurm shows the name as it was asked for
            return JobEnd(state=state[1], memory=_told_of_memory(Path(path)) if path else "")
        time.sleep(LOOK_S)


def _slurm(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (our own words)


def _told_of_memory(log: Path) -> str:
    found = re.search(r"(?i)exceeded (job|step) memory limit|oom[-_]kill event|out of memory", tail(log))
    return found[0] if found else ""


@contextmanager
def connect(config: ExecutorConfig, *, logs: Path) -> Iterator[Cluster]:
    """Join a running Dask cluster, or start one as jobs of a Slurm system; leave or end it afterwards.

    Parameters
    ----------
    logs
        Folder for what the jobs print.

    Raises
    ------
    UserError
        If Dask is not installed, the scheduler cannot be reached, or Slurm refuses the jobs.
    """
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise UserError("Runs on a cluster need Dask: pip install 'cellular-bench[cluster]'.") from error
    with ExitStack() as stack:
        if config.kind == "dask":
            workers = {"": _joined(config, stack)}
        else:
            workers = {group.name: _asked_for(group, stack, logs) for group in config.workers}
        yield Cluster(workers, config)


def _joined(config: ExecutorConfig, stack: ExitStack) -> _Workers:
    from distributed import Client

    try:
        client = stack.enter_context(Client(config.scheduler, timeout=CONNECT_S, set_as_default=False))
    except TypeError as error:  # tls:// without certificates
        raise UserError(
            f"{config.scheduler} needs the certificates of its cluster. Name them in Dask's configuration: "
            "ca-file, client.key and client.cert of distributed.comm.tls."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"No Dask scheduler answers at {config.scheduler}: {error}") from error
    threads = client.nthreads()
    offered = client.scheduler_info()["workers"].values()
    has_gpu = any("GPU" in worker.get("resources", {}) for worker in offered)
    resources = {"GPU": 1} if has_gpu else {}
    return _Workers(client=client, n_slots=sum(threads.values()) or 1, resources=resources)


def _asked_for(group: WorkerClass, stack: ExitStack, logs: Path) -> _Workers:
    """Start a scheduler here and its workers as jobs.

    Every connection is encrypted, and both sides show a certificate made for this benchmark. No dashboard.
    The scheduler listens on the interface that is asked for, else on the address of the default route.
    """
    import dask
    from dask_jobqueue import SLURMCluster
    from distributed import Client

    logs.mkdir(parents=True, exist_ok=True)
    host = _address(group.interface)
    security = _temporary_security(
        Path(stack.enter_context(tempfile.TemporaryDirectory(dir=logs, prefix=".tls-")))
    )
    # Pages of state and metrics, which nobody has to show a certificate for.
    no_pages: dict[str, list[str]] = {
        f"distributed.{role}.http.routes": [] for role in ("scheduler", "worker")
    }
    stack.enter_context(dask.config.set(no_pages))
    gpus = [f"--gpus={group.gpus}"] if group.gpus else []
    # A job that is lost is asked for again by us, so its name is free at once.
    stack.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}))
    cluster = SLURMCluster(
        queue=group.partition,
        account=group.account,
        cores=group.slots,
        job_cpu=group.cores,
        processes=1,
        memory=group.memory,
        walltime=group.walltime,
        interface=group.interface,
        protocol="tls://",
        security=security,
        python=group.python or sys.executable,
        nanny=False,
        job_name=f"cellular-bench-{group.name}",
        job_extra_directives=[*gpus, *group.directives],
        job_script_prologue=list(group.prologue),
        worker_extra_args=["--no-dashboard", "--dashboard-address", "127.0.0.1:0"],
        log_directory=str(logs),
        scheduler_options={
            "host": host,
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
            "allowed_failures": 0,
        },
    )
    stack.callback(cluster.close)
    _check_accepted(cluster.job_script())
    cluster.scale(group.jobs)
    client = stack.enter_context(Client(cluster, set_as_default=False))
    return _Workers(client=client, n_slots=group.jobs * group.slots, cluster=cluster, jobs=group.jobs)


def _address(interface: str | None) -> str:
    from distributed.utils import get_ip, get_ip_interface

    if interface is None:
        return str(get_ip())
    try:
        return str(get_ip_interface(interface))
    except ValueError as error:
        raise UserError(f"The interface '{interface}' of workers is not on this machine: {error}.") from error


def _temporary_security(folder: Path) -> Security:
    """Make a key and a certificate for one benchmark, as files in a folder that only this user can enter.

    Workers read them from there, so the folder must be visible on their nodes, as the logs of jobs must.
    """
    from distributed.security import Security

    try:
        made = Security.temporary()
    except ImportError as error:
        raise UserError(
            "Slurm jobs need cryptography, which encrypts their connections: "
            "pip install 'cellular-bench[cluster]'."
        ) from error
    files = {"key.pem": made.tls_worker_key, "cert.pem": made.tls_worker_cert}
    key, cert = (_private_file(folder / name, text) for name, text in files.items())
    of_roles = {f"tls_{role}_key": key for role in ("client", "scheduler", "worker")}
    of_roles |= {f"tls_{role}_cert": cert for role in ("client", "scheduler", "worker")}
    return Security(require_encryption=True, tls_ca_file=cert, **of_roles)


def _private_file(path: Path, text: str) -> str:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return str(path)


def _check_accepted(script: str) -> None:
    """Ask Slurm whether it would take a job, so that nobody waits for jobs that it refuses."""
    if shutil.which("sbatch") is None:
        raise UserError("There is no command sbatch here: start from a machine that submits Slurm jobs.")
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        done = _slurm("sbatch", "--test-only", file.name)
    if done.returncode:
        raise UserError(f"Slurm does not take these jobs: {done.stderr.strip()}")
