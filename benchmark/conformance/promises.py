"""One function per promise of the interface; each raises where the promise is broken."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark.conformance import data
from cellular_bench.benchmark.conformance.observed import tasks_of
from cellular_bench.benchmark.conformance.subject import SkippedError, Subject
from cellular_bench.core.errors import NotApplicableError, NotFiniteError
from cellular_bench.core.keys import LABEL
from cellular_bench.core.outputs import Outputs

#: How far beyond the share of the most frequent label a method must get to know anything.
BEYOND_CHANCE = 0.15
#: Distances between cells must correlate that well with those of the same cells in another order.
SAME_SHAPE = 0.5
#: Two results are equal within this share of their largest value.
TOLERANCE = 1e-4
#: The same for cells in another order, where sums are rounded differently...
ROUNDING = 1e-3
#: ...and the share of cells that may still change, because two labels were equally good.
MAY_CHANGE = 0.05
#: What a transductive method may turn or shift a little where cells come in another order.
MAY_TURN = ("the embedding", "the corrected expression")
#: Outputs that are compared between runs, and what messages call them.
COMPARED = {
    "X_emb": "the embedding",
    "corrected": "the corrected expression",
    "graph": "the graph",
    **{name: name for name in ("label_pred", "label_proba", "novelty", "rejected")},
}


class BrokenPromiseError(Exception):
    """A check found what it looks for."""


def demand(kept: object, otherwise: str) -> None:
    """Raise where a promise is not kept, saying what was found instead."""
    if not kept:
        raise BrokenPromiseError(otherwise)


def runs(subject: Subject) -> None:
    """Demand that the plain run ends without an error."""
    if isinstance(subject.attempt, BaseException):
        raise subject.attempt


def output_has_shape(subject: Subject) -> None:
    """Demand outputs in the form that a run takes, which raises ContractError at all others."""
    try:
        _ = subject.plain.outputs
    except NotFiniteError:
        return  # the form is right; the next check looks at the values


def output_is_finite(subject: Subject) -> None:
    """Demand that no output is NaN or infinite: a run raises NotFiniteError there."""
    _ = subject.shaped.outputs


def probabilities_add_up(subject: Subject) -> None:
    """Demand probabilities that are named, not negative, and sum to 1 over the labels."""
    outputs = subject.sound.outputs
    probability, labels = outputs.label_proba, outputs.labels
    if probability is None or labels is None:
        raise SkippedError("it gives no probabilities")
    demand(labels.size, "it has no column.")
    demand(len(set(labels)) == len(labels), f"columns share names: {', '.join(labels)}.")
    demand(probability.min() >= 0, f"the lowest is {probability.min():g}.")
    far = np.abs(probability.sum(axis=1) - 1.0).max()
    demand(far <= TOLERANCE, f"a row differs from a sum of 1 by {far:g}.")


def labels_are_known(subject: Subject) -> None:
    """Demand that predicted labels are labels of training cells."""
    predicted = subject.sound.outputs.label_pred
    if predicted is None:
        raise SkippedError("it predicts nothing")
    unknown = sorted(set(predicted.tolist()) - set(data.LABELS))
    demand(not unknown, f"it predicts {', '.join(unknown)}, which no training cell has.")


def scored_outputs_are_given(subject: Subject) -> None:
    """Demand the outputs that the tasks of a method are scored by."""
    there = subject.sound.outputs.arrays().keys()
    for task in tasks_of(subject.spec):
        missing = " or ".join(task.scored)
        demand(not there.isdisjoint(task.scored), f"{task.asked(subject.spec)} gave no {missing}.")


def beats_chance(subject: Subject) -> None:
    """Demand labels and neighbours that are right more often than the most frequent label."""
    outputs = subject.sound.outputs
    label = np.asarray(subject.example.query.obs[LABEL], dtype=np.str_)
    chance = np.unique(label, return_counts=True)[1].max() / label.size
    known: dict[str, float] = {}
    if outputs.X_emb is not None:
        known["neighbours in the embedding"] = data.neighbor_accuracy(outputs.X_emb, label)
    if outputs.graph is not None:
        known["the linked cells"] = data.link_accuracy(outputs.graph, label)
    are_scored = any("label_pred" in task.scored for task in tasks_of(subject.spec))
    if outputs.label_pred is not None and are_scored:
        known["predictions"] = float(np.mean(outputs.label_pred == label))
    for what, accuracy in known.items():
        demand(
            accuracy > chance + BEYOND_CHANCE,
            f"{what} are right for {accuracy:.0%} of the cells; the most frequent label is for {chance:.0%}.",
        )


def order_is_kept(subject: Subject) -> None:
    """Demand the same results for cells in another order."""
    plain = subject.sound
    order = np.random.default_rng(1).permutation(subject.example.query.n_obs)
    moved = subject.again(plain, subject.example.query[order].copy())
    back = np.argsort(order)
    for name, (first, second) in _pairs(plain.outputs, moved.outputs).items():
        if name == "the graph":
            _demand_same_links(first, second[back][:, back])
        elif name in MAY_TURN and not subject.spec.inductive:
            _demand_same_shape(first, second[back])
        else:
            shapes = f"{first.shape} and {second.shape}"
            demand(first.shape == second.shape, f"in another order, {name} has another shape: {shapes}.")
            share = _share_changed(first, second[back])
            demand(share <= MAY_CHANGE, f"in another order, {name} changes for {share:.0%} of the cells.")


def _demand_same_links(plain: NDArray[np.floating[Any]], moved: NDArray[np.floating[Any]]) -> None:
    """Compare graphs that approximate neighbours may change a little when the cells come in another order."""
    agreement = float(np.corrcoef(plain.ravel(), moved.ravel())[0, 1])
    demand(
        agreement > SAME_SHAPE,
        "with the cells in another order, the weights of the links between the same cells correlate only "
        f"{agreement:.2f} with what they were.",
    )


def _demand_same_shape(plain: NDArray[np.floating[Any]], moved: NDArray[np.floating[Any]]) -> None:
    """Compare embeddings that may turn, and shift a little, when the cells come in another order."""
    agreement = data.distance_agreement(plain, moved)
    demand(
        agreement > SAME_SHAPE,
        "with the cells in another order, the distances between the same cells correlate only "
        f"{agreement:.2f} with what they were.",
    )


def names_do_not_matter(subject: Subject) -> None:
    """Demand the same results for cells with other names."""
    plain = subject.sound
    renamed = subject.observe(subject.example.map(data.barcoded))
    _demand_equal(plain.outputs, renamed.outputs, "With cells called AAAC-1_lib1")


def input_is_unchanged(subject: Subject) -> None:
    """Demand that the input is not written to."""
    part = subject.plain.input_changed
    demand(part is None, f"{part} is not what it was.")


def generators_are_unchanged(subject: Subject) -> None:
    """Demand that global random generators do not move."""
    moved = subject.plain.generators_changed
    demand(not moved, f"{', '.join(moved)} moved.")


def nothing_is_written(subject: Subject) -> None:
    """Demand that the working folder stays empty."""
    files = subject.plain.files
    demand(not files, f"it left {', '.join(files)}.")


def seed_repeats(subject: Subject) -> None:
    """Demand the same results from the same seed."""
    plain = subject.sound
    again = subject.observe(subject.example, disturb=True)
    _demand_equal(plain.outputs, again.outputs, "A second time")


def hidden_labels_are_unused(subject: Subject) -> None:
    """Demand that labels that were not asked for change nothing."""
    if subject.spec.labels == "all":
        raise SkippedError("it declares that it reads all labels")
    plain = subject.sound
    if subject.spec.labels == "none":
        shown, when = subject.observe(subject.example, with_labels=True), "With labels in obs"
    else:
        shown, when = subject.peeking(plain), "With labels in the query's obs"
    _demand_equal(plain.outputs, shown.outputs, when)


def single_batch_works(subject: Subject) -> None:
    """Demand that cells of one batch are no error, or declared as one."""
    subject.require_sound()
    try:
        observed = subject.observe(subject.example.map(data.one_batch))
    except NotApplicableError as error:
        demand(subject.spec.needs_batches, f"it says '{error}', but needs_batches is False.")
        return
    _ = observed.outputs  # raises where a run would refuse it


def rare_label_works(subject: Subject) -> None:
    """Demand that a label with one training cell is no error."""
    if subject.spec.labels == "none":
        raise SkippedError("it reads no labels")
    subject.require_sound()
    observed = subject.observe(data.with_rare_label(subject.example))
    _ = observed.outputs  # raises where a run would refuse it


def _demand_equal(plain: Outputs, other: Outputs, when: str) -> None:
    """Demand that another run gave what the plain run gave, but for rounding."""
    for name, (first, second) in _pairs(plain, other).items():
        far = _distance(first, second)
        demand(far <= TOLERANCE, f"{when}, {name} differs by {far:.2g} of its largest value.")


def _pairs(first: Outputs, second: Outputs) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Return what both runs have, by name; links between cells as a dense matrix."""
    one, two = first.arrays(), second.arrays()
    compared = COMPARED | {name: name for name in first.more}
    pairs = {name: (one[key], two[key]) for key, name in compared.items() if key in one and key in two}
    if "the graph" in pairs:
        pairs["the graph"] = one["graph"].toarray(), two["graph"].toarray()
    return pairs


def _share_changed(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Share of cells whose row or value differs by more than rounding."""
    if not np.issubdtype(first.dtype, np.number):
        return float(np.mean(first != second))
    far = np.abs(first - second).reshape(len(first), -1).max(axis=1)
    return float(np.mean(far > ROUNDING * np.abs(first).max()))


def _distance(one: NDArray[Any], two: NDArray[Any]) -> float:
    """Largest difference as a share of the largest value; for labels, the share that differs."""
    if one.shape != two.shape:
        return float("inf")
    if not np.issubdtype(one.dtype, np.number):
        return float(np.mean(one != two))
    largest = max(float(np.abs(one).max()), 1e-12)
    return float(np.abs(one - two).max()) / largest
