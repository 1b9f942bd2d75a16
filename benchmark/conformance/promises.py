"""The promises of a method, beside those of its description; in the order in which they are checked."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark.conformance import data
from cellular_bench.benchmark.conformance.check import Check, demand, promise
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


PROMISES: list[Check] = []
_promise = partial(promise, PROMISES)


@_promise(
    "runs",
    claim="it ends on 240 training cells and 120 others of three types in two batches.",
    hint="Fix the line named above. In Python: `from cellular_bench.benchmark.conformance import data`, "
    "`cells = data.simulate()`, then call your method on cells.train and cells.query.",
)
def _runs(subject: Subject) -> None:
    if isinstance(subject.attempt, BaseException):
        raise subject.attempt


@_promise(
    "output_shape",
    claim="a run takes what it returns: one row or value per cell, in a form that the interface knows.",
    hint="Return arrays of n_obs rows: every cell that came in, filtered by nothing, and every gene in "
    "corrected expression. Set Prediction.labels to the names of the columns of label_proba, each once.",
)
def _output_has_shape(subject: Subject) -> None:
    try:
        _ = subject.plain.outputs  # raises ContractError where a run would
    except NotFiniteError:
        return  # the form is right; the next check looks at the values


@_promise(
    "finite",
    claim="no NaN, no infinity and no missing label; weights of links are 0 or above.",
    hint="Guard divisions by zero and logarithms, and name every cell; raise NotApplicableError where "
    "there is no answer.",
)
def _output_is_finite(subject: Subject) -> None:
    _ = subject.shaped.outputs  # raises NotFiniteError where a run would


@_promise(
    "probabilities",
    claim="label_proba has a column per label, and rows that sum to 1.",
    hint="Divide scores by their sum.",
)
def _probabilities_add_up(subject: Subject) -> None:
    outputs = subject.sound.outputs
    probability, labels = outputs.label_proba, outputs.labels
    if probability is None or labels is None:
        raise SkippedError("it gives no probabilities")
    demand(labels.size, "it has no column.")
    demand(probability.min() >= 0, f"the lowest is {probability.min():g}.")
    far = np.abs(probability.sum(axis=1) - 1.0).max()
    demand(far <= TOLERANCE, f"a row differs from a sum of 1 by {far:g}.")


@_promise(
    "known_labels",
    claim="only labels of training cells are predicted.",
    hint="To decline, set Prediction.rejected and keep the best label in label_pred.",
)
def _labels_are_known(subject: Subject) -> None:
    predicted = subject.sound.outputs.label_pred
    if predicted is None:
        raise SkippedError("it predicts nothing")
    unknown = sorted(set(predicted.tolist()) - set(data.LABELS))
    demand(not unknown, f"it predicts {', '.join(unknown)}, which no training cell has.")


@_promise(
    "novelty_given",
    claim="a method returns what its tasks are scored by, such as a novelty per cell for 'novelty'.",
    hint="Set Prediction.novelty, for example to 1 - the highest probability.",
)
def _scored_outputs_are_given(subject: Subject) -> None:
    there = subject.sound.outputs.arrays().keys()
    for task in tasks_of(subject.spec):
        missing = " or ".join(task.scored)
        demand(not there.isdisjoint(task.scored), f"{task.asked(subject.spec)} gave no {missing}.")


@_promise(
    "beats_chance",
    claim="it distinguishes three types that differ sixfold in 15 genes each.",
    hint="Look for rows in the wrong order, raw counts where log values are meant, or too few epochs.",
)
def _beats_chance(subject: Subject) -> None:
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


@_promise(
    "cell_order",
    claim="rows come in the order of obs_names.",
    hint="Methods that work batch by batch return cells grouped by batch: put rows back by position.",
)
def _order_is_kept(subject: Subject) -> None:
    plain = subject.sound
    order = np.random.default_rng(1).permutation(subject.example.query.n_obs)
    moved = subject.again(plain, subject.example.query[order].copy())
    back = np.argsort(order)
    for name, (first, second) in _pairs(plain.outputs, moved.outputs).items():
        if name == "the graph":
            _demand_agreement(_correlation(first, second[back][:, back]), of="weights of the links")
        elif name in MAY_TURN and not subject.spec.inductive:
            _demand_agreement(data.distance_agreement(first, second[back]), of="distances")
        else:
            shapes = f"{first.shape} and {second.shape}"
            demand(first.shape == second.shape, f"in another order, {name} has another shape: {shapes}.")
            share = _share_changed(first, second[back])
            demand(share <= MAY_CHANGE, f"in another order, {name} changes for {share:.0%} of the cells.")


def _demand_agreement(agreement: float, *, of: str) -> None:
    """Permit what another order of the cells changes a little: embeddings turn, neighbours differ."""
    demand(
        agreement > SAME_SHAPE,
        f"with the cells in another order, the {of} between the same cells correlate only "
        f"{agreement:.2f} with what they were.",
    )


@_promise(
    "cell_names",
    claim="cells may have any names.",
    hint="Names are strings that say nothing of the cells: index by position, do not parse and do not sort.",
)
def _names_do_not_matter(subject: Subject) -> None:
    _skip_if_names_matter(subject)
    plain = subject.sound
    renamed = subject.observe(subject.example.map(data.misnamed))
    when = f"With cells named after the type of others, such as {data.LABELS[0]}_AAACC-1000"
    _demand_equal(plain.outputs, renamed.outputs, when)


def _skip_if_names_matter(subject: Subject) -> None:
    if subject.spec.needs_names:
        raise SkippedError("it is given the names that cells have in the data")


@_promise(
    "other_order_and_names",
    claim="cells may come in any order, those that it learns from too, and runs name them q0000017.",
    hint="Find labels and batches by their names, not by which comes first, and draw training cells with a "
    "generator. What is drawn may differ, as with another seed; what is learned may not.",
)
def _training_order_does_not_matter(subject: Subject) -> None:
    _skip_if_names_matter(subject)
    plain = subject.sound
    generator = np.random.default_rng(2)
    train, query = subject.example.train, subject.example.query
    orders = [generator.permutation(cells.n_obs) for cells in (train, query)]
    moved = subject.observe(
        data.Example(
            train=data.reordered(train, prefix="t", order=orders[0]),
            query=data.reordered(query, prefix="q", order=orders[1]),
        )
    )
    back = np.argsort(orders[1])
    for name, (first, second) in _pairs(plain.outputs, moved.outputs).items():
        when = "With all cells in another order and called q0000017"
        if not np.issubdtype(first.dtype, np.number):
            share = _share_changed(first, second[back])
            demand(share <= MAY_CHANGE, f"{when}, {name} changes for {share:.0%} of the cells.")
            continue
        if name == "the graph":
            agreement = _correlation(first, second[back][:, back])
        elif name in MAY_TURN:
            agreement = data.distance_agreement(first, second[back])
        else:
            agreement = _correlation(first, second[back])
        demand(agreement > SAME_SHAPE, f"{when}, {name} correlates only {agreement:.2f} with what it was.")


def _correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Correlate two arrays of one shape; 1 for equal ones, as of a constant."""
    if first.shape != second.shape:
        return 0.0
    if np.allclose(first, second):
        return 1.0
    if min(np.ptp(first), np.ptp(second)) == 0.0:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@_promise(
    "input_unchanged",
    claim="the data that it is given stay as they are.",
    hint="Work on a copy: many scanpy functions write to their input.",
)
def _input_is_unchanged(subject: Subject) -> None:
    part = subject.plain.input_changed
    demand(part is None, f"{part} is not what it was.")


@_promise(
    "random_state",
    claim="global random generators stay as they are.",
    hint="Use numpy.random.default_rng(seed); around a library that seeds, save and restore the state.",
)
def _generators_are_unchanged(subject: Subject) -> None:
    moved = subject.plain.generators_changed
    demand(not moved, f"{', '.join(moved)} moved.")


@_promise(
    "writes_nothing",
    claim="nothing is left in the working folder.",
    hint="Switch off logs and checkpoints, or write to a temporary folder.",
)
def _nothing_is_written(subject: Subject) -> None:
    files = subject.plain.files
    demand(not files, f"it left {', '.join(files)}.")


@_promise(
    "seed_repeats",
    claim="the same seed gives the same result, whatever the state of the global generators.",
    hint="Pass the seed to every library that draws.",
)
def _seed_repeats(subject: Subject) -> None:
    plain = subject.sound
    again = subject.observe(subject.example, disturb=True)
    _demand_equal(plain.outputs, again.outputs, "A second time")


@_promise(
    "labels_unused",
    claim="labels that the spec does not ask for change nothing.",
    hint='Declare labels="train" or "all", or do not read obs["label"] of these cells.',
)
def _hidden_labels_are_unused(subject: Subject) -> None:
    if subject.spec.labels == "all":
        raise SkippedError("it declares that it reads all labels")
    plain = subject.sound
    if subject.spec.labels == "none":
        shown, when = subject.observe(subject.example, with_labels=True), "With labels in obs"
    else:
        shown = subject.again(plain, subject.example.query, with_labels=True)
        when = "With labels in the query's obs"
    _demand_equal(plain.outputs, shown.outputs, when)


@_promise(
    "single_batch",
    claim="cells of one batch are no error, unless needs_batches says so.",
    hint="Set needs_batches=True and raise NotApplicableError, or return what needs no correction.",
)
def _single_batch_works(subject: Subject) -> None:
    _ = subject.sound  # unusual data say nothing of a method that fails on usual ones
    try:
        observed = subject.observe(subject.example.map(data.one_batch))
    except NotApplicableError as error:
        demand(subject.spec.needs_batches, f"it says '{error}', but needs_batches is False.")
        return
    _ = observed.outputs  # raises where a run would refuse it


@_promise(
    "rare_label",
    claim="a label with a single training cell is no error.",
    hint="Cross-validation and stratified splits fail on such labels: repeat the cell or fold less.",
)
def _rare_label_works(subject: Subject) -> None:
    if subject.spec.labels == "none":
        raise SkippedError("it reads no labels")
    _ = subject.sound  # as above
    _ = subject.observe(data.with_rare_label(subject.example)).outputs  # raises where a run would refuse it


@_promise(
    "nothing_remembered",
    claim="what it learned in an earlier run changes nothing.",
    hint="Keep what is learned in attributes that fit sets: no files in the home folder or a cache, no "
    "attributes of the class, no global variables.",
)
def _nothing_is_remembered(subject: Subject) -> None:
    plain = subject.sound
    subject.observe(data.exchanged(subject.example))
    again = subject.observe(subject.example)
    _demand_equal(plain.outputs, again.outputs, "After a run that showed it wrong labels of the same cells")


def _demand_equal(plain: Outputs, other: Outputs, when: str) -> None:
    for name, (first, second) in _pairs(plain, other).items():
        far = _distance(first, second)
        demand(far <= TOLERANCE, f"{when}, {name} differs by {far:.2g} of its largest value.")


def _pairs(first: Outputs, second: Outputs) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Return what both runs have, by name; links between cells as a dense matrix."""
    one, two = first.arrays(), second.arrays()
    compared = COMPARED | {name: name for name in first.more}
    pairs = {name: (one[key], two[key]) for key, name in compared.items() if key in one and key in two}
    if "label_proba" in pairs and sorted(one["labels"]) == sorted(two["labels"]):
        columns = np.argsort(np.argsort(one["labels"])), np.argsort(two["labels"])
        pairs["label_proba"] = one["label_proba"], two["label_proba"][:, columns[1]][:, columns[0]]
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
