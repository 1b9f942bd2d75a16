"""Scores that studies published, so that ours can be set beside them.

The figures are means and standard deviations over the folds of the studies' own result tables, under
our names of data sets, methods and metrics. They are quoted, never ranked: other cells, other versions
and other implementations of a metric make other numbers.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from cellular_bench.core.types import TaskId

FOLDER: Final = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Where published scores come from."""

    title: str
    doi: str
    protocol: str


STUDIES: Final[Mapping[str, Study]] = {
    "cellular": Study(
        title="Andrekson and Mercado 2024, CELLULAR",
        doi="10.5281/zenodo.10959788",
        protocol="five stratified folds, seed 42",
    ),
}

#: Data sets that hold part of the cells of a published one, and how they differ.
PARTS_OF: Final[Mapping[str, tuple[str, str]]] = {
    "baron": (
        "baron_full",
        "the published scores are of all 8,569 cells and all genes, of which these are 3,607 and 4,078",
    ),
    "baron_human": ("baron_full", "the published scores are of all 8,569 cells, of which these are 3,607"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedScore:
    """One metric of one method on one data set.

    Attributes
    ----------
    study_id
        Key of :data:`STUDIES`.
    protocol
        Which part of the study: ``"annotation"``, ``"generalisation"``, ``"loss-ablation"`` or ``"novelty"``.
    features
        ``"all"`` genes or ``"hvg"``, where a method was run on both.
    metric_id
        Our name of the metric; ``"overall"``, ``"batch_correction"``, ``"bio_conservation"``: the study's
        means of nine raw metrics; ``"sample_precision_T"``, ``"sample_coverage_T"``: of known and novel
        samples at the likelihood T.
    mean, std
        Over the folds; no deviation for what is worked out over all of them at once.
    """

    study_id: str
    protocol: str
    task: TaskId
    dataset_id: str
    method_id: str
    features: str
    metric_id: str
    mean: float
    std: float | None
    n_folds: int


@cache
def published_scores() -> tuple[PublishedScore, ...]:
    """Return every published score that ships with the package.

    Examples
    --------
    >>> [f"{score.mean:.3f}" for score in published_scores()
    ...  if (score.dataset_id, score.method_id) == ("baron_full", "tosica")]
    ['0.981', '0.931', '0.982']
    """
    rows: list[dict[str, str | None]] = []
    for study_id in STUDIES:
        with (FOLDER / f"{study_id}.csv").open(encoding="utf-8", newline="") as file:
            rows += [{"study_id": study_id, **row, "std": row["std"] or None} for row in csv.DictReader(file)]
    return TypeAdapter(tuple[PublishedScore, ...]).validate_python(rows)
