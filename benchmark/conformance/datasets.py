"""The promises of a data set: it keeps the data contract, and is the same every time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from cellular_bench.benchmark.conformance.check import Check, demand, promise
from cellular_bench.benchmark.conformance.subject import SkippedError
from cellular_bench.core.errors import DataError
from cellular_bench.core.keys import LABEL
from cellular_bench.core.types import DatasetSpec

if TYPE_CHECKING:
    from cellular_bench.core.types import Dataset


DATASET_CHECKS: list[Check] = []
_promise = partial(promise, DATASET_CHECKS)


@dataclass
class DatasetSubject:
    """The data set under test, loaded once."""

    spec: DatasetSpec

    @cached_property
    def attempt(self) -> Dataset | Exception:
        """The data set, or why it cannot be loaded."""
        from cellular_bench.datasets import catalog

        try:
            return catalog.load(self.spec)
        except Exception as error:
            return error

    @property
    def loaded(self) -> Dataset:
        """The data set; checks that need it are skipped where it cannot be loaded."""
        if isinstance(self.attempt, Exception):
            raise SkippedError("needs the check 'loads' to pass")
        return self.attempt


@_promise(
    "loads",
    claim="it can be had, and keeps the data contract.",
    hint="docs/data-contract.md says what a data set must hold, and how to fix each problem.",
)
def _loads(subject: DatasetSubject) -> None:
    if isinstance(subject.attempt, DataError):
        demand(not subject.attempt.problems, "\n".join(subject.attempt.problems))
    if isinstance(subject.attempt, Exception):
        raise subject.attempt


@_promise(
    "same_again",
    claim="it is the same every time: records name it by the digest of its content.",
    hint="Seed whatever draws, sort what comes from sets and folders, read one fixed version of a file.",
)
def _is_the_same_again(subject: DatasetSubject) -> None:
    first = subject.loaded.digest
    again = DatasetSubject(subject.spec).loaded.digest
    demand(first == again, f"its digest was {first[:10]}, and is {again[:10]} a second time.")


@_promise(
    "labels",
    claim="there are two labels or more, so that there is something to distinguish, or none at all.",
    hint="Name another column as label_key, or no column.",
)
def _has_two_labels(subject: DatasetSubject) -> None:
    if subject.spec.label_key is None:
        return
    names = list(subject.loaded.adata.obs[LABEL].cat.categories)
    demand(len(names) > 1, f"every cell is '{names[0]}'.")
