"""Published scores beside ours, in numbers: per data set, protocol, method and metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Final

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import Board, BoardRow, Summary, over_units
from cellular_bench.benchmark.external.published import PARTS_OF, PublishedScore, published_scores
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.errors import UndefinedError
from cellular_bench.core.types import AspectId

#: Larger differences are reported.
LARGE_DIFFERENCE: Final = 0.02
#: Weights of the study's overall score, and the raw metrics of each of its aspects.
STUDY_ASPECTS: Final[Mapping[AspectId, tuple[float, tuple[str, ...]]]] = {
    "batch_correction": (0.4, ("silhouette_batch", "pcr_scib", "graph_connectivity_scib")),
    "bio_conservation": (
        0.6,
        (
            "silhouette_label",
            "isolated_labels",
            "nmi_scib",
            "ari_scib",
            "isolated_label_f1",
            "cell_cycle_conservation",
        ),
    ),
}
#: Parameters with which a method runs as the study ran it; other rows of it take second place.
STUDY_PRESET: Final = ("preset", "paper")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One published score and ours.

    Attributes
    ----------
    published
        What the study states.
    row
        Our row of the same method, on the same genes where the study has both; None where it was not run.
    ours
        Mean and standard deviation over our folds; None where there is no row.
    n_runs
        Our runs that have a value.
    """

    published: PublishedScore
    row: BoardRow | None
    ours: Summary | None
    n_runs: int = 0

    @property
    def method_name(self) -> str:
        """The name of our row, or of our method where it was not run."""
        if self.row is not None:
            return self.row.method.name
        method = _our_methods().get(self.published.method_id)
        return method.spec.name if method else self.published.method_id

    @property
    def difference(self) -> float | None:
        """Ours minus the published one."""
        ours = None if self.ours is None else self.ours.mean
        return None if ours is None else ours - self.published.mean

    @property
    def n_planned(self) -> int:
        """Our runs that there should be: failed ones and splits that were never run count, too."""
        return 0 if self.row is None else self.row.coverage[1]

    @property
    def is_large(self) -> bool:
        """True where they differ by more than 0.02."""
        return self.difference is not None and abs(self.difference) > LARGE_DIFFERENCE

    @property
    def verdict(self) -> str:
        """Say whether they agree.

        ``agrees``: to 0.02. ``within spread``: by not more than both standard deviations over folds
        together. ``differs``: by more. ``incomplete``: ours lacks some of its runs, so that it is of other
        folds. ``missing``: we have none.
        """
        if self.difference is None:
            return "missing"
        if 0 < self.n_runs < self.n_planned:
            return "incomplete"
        if not self.is_large:
            return "agrees"
        spread = (self.published.std or 0.0) + ((self.ours.std if self.ours else None) or 0.0)
        return "within spread" if abs(self.difference) <= spread else "differs"


_our_methods = cache(registry.methods)


def compared(board: Board) -> dict[tuple[str, str], tuple[Compared, ...]]:
    """Return the published scores on the data of a board, by study and protocol, each beside ours.

    Only what was cut the same way: folds, or a type left out of each. Protocols that scored none of the
    board's methods are left out.
    """
    dataset_id, _ = PARTS_OF.get(board.dataset.dataset_id, (board.dataset.dataset_id, ""))
    if board.split_kind not in ("kfold", "unseen_label") or board.splits[0].stress is not None:
        return {}
    groups: dict[tuple[str, str], list[PublishedScore]] = defaultdict(list)
    for score in published_scores():
        if (score.task, score.dataset_id) == (board.task, dataset_id):
            groups[score.study_id, score.protocol].append(score)
    here = {row.method.method_id for row in board.rows}
    return {
        group: tuple(_compared(board, score, scores) for score in scores)
        for group, scores in groups.items()
        if here & {score.method_id for score in scores}
    }


def _compared(board: Board, score: PublishedScore, scores: Sequence[PublishedScore]) -> Compared:
    row = _row(board, score, on_both=is_on_both(score.method_id, scores))
    if row is None:
        return Compared(published=score, row=None, ours=None)
    ours, n_runs = _ours(board, row, score.metric_id)
    return Compared(published=score, row=row, ours=ours, n_runs=n_runs)


def is_on_both(method_id: str, scores: Sequence[PublishedScore]) -> bool:
    """Tell whether a study ran a method on all genes and on highly variable ones."""
    return len({score.features for score in scores if score.method_id == method_id}) > 1


def _row(board: Board, score: PublishedScore, *, on_both: bool) -> BoardRow | None:
    rows = [row for row in board.rows if row.method.method_id == score.method_id]
    if on_both:
        rows = [row for row in rows if row.method.features in (None, score.features)]
    name, value = STUDY_PRESET
    as_in_study = [row for row in rows if row.method.params.get(name) == value]
    return next(iter([*as_in_study, *rows]), None)


def _ours(board: Board, row: BoardRow, metric_id: str) -> tuple[Summary, int]:
    if metric_id.startswith(("sample_precision_", "sample_coverage_")):
        return _samples(row, metric_id, n_labels=board.dataset.n_labels)
    found = over_units(row.done, (_of_run(run, metric_id) for run in row.done))
    return found, found.n


def _of_run(run: RunRecord, metric_id: str) -> float | None:
    if metric_id == "overall":
        parts = [(weight, _mean_of(run, metric_ids)) for weight, metric_ids in STUDY_ASPECTS.values()]
        known = [weight * value for weight, value in parts if value is not None]
        return sum(known) if len(known) == len(parts) else None
    if metric_id in STUDY_ASPECTS:
        return _mean_of(run, STUDY_ASPECTS[metric_id][1])
    return run.value(metric_id)


def _mean_of(run: RunRecord, metric_ids: Sequence[str]) -> float | None:
    values = [value for name in metric_ids if (value := run.value(name)) is not None]
    return fmean(values) if len(values) == len(metric_ids) else None


def _samples(row: BoardRow, metric_id: str, *, n_labels: int) -> tuple[Summary, int]:
    """Judge every run's known and novel cells as two samples; the study rescales by all its types."""
    from cellular_bench.metrics import flag_samples, likelihood

    name, _, threshold = metric_id.rpartition("_")
    pairs = [(run.value("lowest_confidence_known"), run.value("lowest_confidence_novel")) for run in row.done]
    complete = [pair for pair in pairs if None not in pair]
    if not complete:
        return Summary.of([]), 0
    known, novel = (likelihood(values, n_labels) for values in zip(*complete, strict=True))
    try:
        found = flag_samples(known, novel, threshold=float(threshold))
    except UndefinedError as error:
        return Summary.of([None], [str(error)]), len(complete)
    return Summary.of([found.precision if name == "sample_precision" else found.coverage]), len(complete)
