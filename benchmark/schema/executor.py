"""Where runs are carried out, as a suite or a file for ``--slurm-config`` says it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator

from cellular_bench.benchmark.schema.records import Model
from cellular_bench.core.errors import UserError
from cellular_bench.core.toml import explain, read_toml

ExecutorKind = Literal["local", "dask", "slurm"]
DEFAULT_RETRIES = 2
#: Host names that mean this machine.
_HERE = ("localhost", "127.0.0.1", "::1")


def _one_line(text: str) -> str:
    if not text.replace("\t", " ").isprintable():
        raise ValueError("must be one line without control characters")
    return text


def _directive(text: str) -> str:
    if not text.startswith("-"):
        raise ValueError("must begin with -, such as --constraint=avx2")
    return _one_line(text)


# These become lines of a shell script, so that none may end its line or begin another word.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Words = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.,@+:-]{0,199}$")]
Memory = Annotated[str, Field(pattern=r"^[0-9]{1,12}(\.[0-9]{1,3})? ?[kKMGTP]?i?B?$")]
WallTime = Annotated[str, Field(pattern=r"^[0-9]{1,6}([:-][0-9]{1,6}){0,3}$")]
Line = Annotated[str, AfterValidator(_one_line)]
Directive = Annotated[str, AfterValidator(_directive)]
Address = Annotated[
    str, Field(pattern=r"^((tcp|tls)://)?([A-Za-z0-9._-]{1,253}|\[[0-9a-fA-F:.%]{2,64}\]):[0-9]{1,5}$")
]


class WorkerClass(Model):
    """Jobs of one kind that a batch system is asked for.

    Attributes
    ----------
    jobs
        How many.
    cores, memory, walltime, gpus
        What each may use. It carries out a run per GPU at a time, or a run per core where it has none.
    methods
        Whose runs go here; where empty, those of every method that no other class names.
    interface
        Network interface on which workers and scheduler reach each other.
    directives
        More lines for the batch system, such as ``--constraint=avx2``.
    prologue
        Shell lines before the worker starts, such as ``module load python``.
    python
        Interpreter on the nodes; the one of the harness where None.
    """

    name: Name = "workers"
    jobs: int = Field(default=1, ge=1, le=10_000)
    cores: int = Field(default=1, ge=1, le=4096)
    memory: Memory = "8GB"
    walltime: WallTime = "01:00:00"
    gpus: int = Field(default=0, ge=0, le=64)
    partition: Words | None = None
    account: Words | None = None
    methods: tuple[str, ...] = ()
    interface: Name | None = None
    directives: tuple[Directive, ...] = ()
    prologue: tuple[Line, ...] = ()
    python: Line | None = None

    @property
    def slots(self) -> int:
        """Runs that one job carries out at a time."""
        return self.gpus or self.cores


class ExecutorConfig(Model):
    """The table ``[executor]`` of a suite, or a file for ``--slurm-config``.

    Attributes
    ----------
    scheduler
        Address of a running Dask scheduler, for ``kind = "dask"``: ``tcp://HOST:PORT``, or ``tls://HOST:PORT``
        with the certificates of Dask's configuration.
    retries
        How often a run is tried again on another worker when its worker is lost.
    workers
        Classes of jobs, for ``kind = "slurm"``.
    """

    kind: ExecutorKind = "local"
    scheduler: Address | None = None
    retries: int = Field(default=DEFAULT_RETRIES, ge=0, le=100)
    workers: tuple[WorkerClass, ...] = Field(default=(), max_length=100)

    @model_validator(mode="after")
    def _is_complete(self) -> ExecutorConfig:
        if self.kind == "dask" and self.scheduler is None:
            raise ValueError("kind 'dask' needs scheduler, such as 'tcp://10.0.0.1:8786'")
        if self.kind == "slurm" and not self.workers:
            raise ValueError("kind 'slurm' needs a table [[workers]] that says what to ask for")
        names = [workers.name for workers in self.workers]
        if len(set(names)) < len(names):
            raise ValueError("two classes of workers have the same name")
        if self.workers and all(workers.methods for workers in self.workers):
            raise ValueError("one class of workers must have no methods: it takes what no other takes")
        return self

    @property
    def is_open(self) -> bool:
        """Whether runs go to a scheduler on another machine, without encryption and authentication."""
        if self.kind != "dask" or self.scheduler is None or self.scheduler.startswith("tls://"):
            return False
        return urlsplit(f"//{self.scheduler.removeprefix('tcp://')}").hostname not in _HERE

    def class_of(self, method_id: str, *, gpu: bool) -> str:
        """Return the class of workers that a method's runs go to.

        That which names it; else one with GPUs for a method that uses one; else the first that takes all.
        """
        named = [workers for workers in self.workers if method_id in workers.methods]
        general = [workers for workers in self.workers if not workers.methods]
        suited = [workers for workers in general if (workers.gpus > 0) == gpu]
        return [*named, *suited, *general][0].name


def read_executor(path: Path) -> ExecutorConfig:
    """Read a file for ``--slurm-config``.

    Raises
    ------
    UserError
        If the file cannot be read or does not describe workers; the message names the field.
    """
    table = read_toml(path, what="Slurm configuration")
    given = table.get("executor", table)
    if not isinstance(given, dict):
        raise UserError(f"Slurm configuration {path}: executor: it must be a table (got {given!r:.200}).")
    try:
        return ExecutorConfig.model_validate({"kind": "slurm", **given})
    except ValidationError as error:
        raise UserError(f"Slurm configuration {path}: {explain(error)}") from error
