"""A run that is planned, and the plan of a suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cellular_bench.benchmark.schema.records import (
    DatasetIdentity,
    Limits,
    MethodIdentity,
    SplitIdentity,
)
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.types import ProfileName, Split, TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run that is to be carried out.

    ``replaces`` are the names that it had when its method's environment, or a package, was missing; that
    it did not apply then says nothing any more once there is this one. ``warnings`` are what was worth
    knowing of the data.
    """

    run_id: str
    suite_id: str
    task: TaskId
    method: MethodIdentity
    dataset: DatasetIdentity
    split: SplitIdentity
    seed: int
    method_seed: int
    limits: Limits
    profile: ProfileName = "standard"
    plugins: tuple[Path, ...] = ()
    study_metrics: bool = False
    replaces: tuple[str, ...] = ()
    gpu: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every run of a suite, and the splits that they use.

    ``splits`` is keyed by data set digest and split digest.
    """

    suite: Suite
    runs: tuple[Run, ...]
    splits: Mapping[tuple[str, str], Split]
