"""A run that is planned, and the plan of a suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cellular_bench.benchmark.schema.records import Limits, Model, Run
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.sizes import MIN_CELLS
from cellular_bench.core.types import Dataset, ProfileName, Split


class Access(Model):
    """What the process of a method may use beside the cells that its labels allow.

    Attributes
    ----------
    needs_train
        Whether it sees training cells.
    needs_names
        Whether it sees the names that cells have in the data.
    is_called_twice
        Whether it sees the batches of a second call.
    environment, program
        As in the method's description.
    package
        Package of an installed method of somebody else.
    files
        Files that its parameters name.
    weights
        Folders with pretrained weights.
    """

    needs_train: bool = True
    needs_names: bool = False
    is_called_twice: bool = False
    environment: str | None = None
    program: str | None = None
    package: str | None = None
    files: tuple[Path, ...] = ()
    weights: tuple[str, ...] = ()


class PlannedRun(Run):
    """A run that is to be carried out: what its record will hold of it, and what only carrying it out needs.

    ``plugins`` are the files that define its method and its task, ``metric_plugins`` those that define
    metrics; ``access`` is what its method may use, ``sandbox`` says whether it runs in a sandbox where there
    is one, ``gpu`` whether it uses a GPU, ``needs_batches`` whether it only makes sense on several batches.
    """

    method_seed: int
    limits: Limits
    profile: ProfileName = "standard"
    study_metrics: bool = False
    min_cells: int = MIN_CELLS
    plugins: tuple[Path, ...] = ()
    metric_plugins: tuple[Path, ...] = ()
    access: Access = Access()
    sandbox: bool = True
    gpu: bool = False
    needs_batches: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every run of a suite, the runs of its leak canaries, and the splits that all use.

    ``splits`` is keyed by data set digest and split digest, and so is ``left_out``: batches that metrics
    leave out, with their numbers of scored cells. ``notes`` say which splits and batches have few cells.
    ``canary_data`` are the data of the leak canaries by their digest.
    """

    suite: Suite
    runs: tuple[PlannedRun, ...]
    splits: Mapping[tuple[str, str], Split]
    left_out: Mapping[tuple[str, str], Mapping[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    canaries: tuple[PlannedRun, ...] = ()
    canary_data: Mapping[str, Dataset] = field(default_factory=dict)

    @property
    def all_runs(self) -> tuple[PlannedRun, ...]:
        """The runs of the suite, then those of its leak canaries."""
        return (*self.runs, *self.canaries)

    def without_sandbox(self) -> Plan:
        """Return the plan with methods outside any sandbox."""
        runs, canaries = (
            tuple(run.model_copy(update={"sandbox": False}) for run in some)
            for some in (self.runs, self.canaries)
        )
        return replace(self, runs=runs, canaries=canaries)
