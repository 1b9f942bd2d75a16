"""The list of checks, with what each one promises and how to fix it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cellular_bench.benchmark.conformance import promises
from cellular_bench.benchmark.conformance.observed import tasks_of
from cellular_bench.benchmark.conformance.subject import Subject
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.types import MethodSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A promise that every method makes.

    Attributes
    ----------
    check_id
        Name used in ``expected_failed_checks``.
    claim
        What is promised.
    hint
        What to do where it is not kept.
    run
        Raises where the promise is broken.
    """

    check_id: str
    claim: str
    hint: str
    run: Callable[[Subject], None]


def _spec_is_sane(subject: Subject) -> None:
    problems = list(_spec_problems(subject.method_class))
    promises.demand(not problems, " ".join(problems))


def _spec_problems(method_class: Any) -> Iterator[str]:
    spec = getattr(method_class, "spec", None)
    if not isinstance(spec, MethodSpec):
        yield "`spec` is no MethodSpec."
        return
    if not re.fullmatch(r"[a-z][a-z0-9_]*", spec.method_id):
        yield f"method_id '{spec.method_id}' is not in lower_snake_case."
    if not spec.name.strip():
        yield "name is empty."
    if not spec.tasks or not set(spec.tasks) <= set(TASKS):
        yield f"tasks are {spec.tasks}, expected some of {', '.join(TASKS)}."
    learns = [task.task_id for task in tasks_of(spec) if task.needs_labels]
    if learns and spec.labels == "none":
        yield f"it does {', '.join(learns)}, but labels is 'none': it would see nothing to learn from."
    unknown = sorted(set(spec.expected_failed_checks) - {check.check_id for check in CHECKS})
    if unknown:
        yield f"expected_failed_checks names unknown checks: {', '.join(unknown)}."
    if not all(reason.strip() for reason in spec.expected_failed_checks.values()):
        yield "expected_failed_checks holds an empty reason."
    if not (vars(method_class).get("__doc__") or "").strip():
        yield "the class has no docstring."
    yield from _missing_functions(method_class, spec)
    yield from _constructor_problems(method_class)


def _missing_functions(method_class: Any, spec: MethodSpec) -> Iterator[str]:
    wanted = {task.asked(spec) for task in tasks_of(spec)}
    if not all(task.is_at_once(spec) for task in tasks_of(spec)):
        wanted.add("fit")
    missing = sorted(name for name in wanted if not callable(getattr(method_class, name, None)))
    if missing:
        yield f"tasks {spec.tasks} with inductive={spec.inductive} need {', '.join(missing)}."


def _constructor_problems(method_class: Any) -> Iterator[str]:
    parameters = inspect.signature(method_class).parameters
    bad = [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY or p.default is p.empty]
    if bad:
        yield f"constructor parameters {', '.join(bad)} are not keyword-only with a default."
    spec = method_class.spec
    named = {*spec.needs_params, *spec.file_params, *spec.method_params}
    if not named <= set(parameters):
        unknown = ", ".join(sorted(named - set(parameters)))
        yield f"needs_params, file_params or method_params name no parameter: {unknown}."
    if "seed" not in parameters:
        yield "the constructor takes no seed."


CHECKS = (
    Check(
        check_id="spec_sane",
        claim="the class says what it is, has what its tasks need, and takes keywords with defaults.",
        hint="Correct the field named above; `run-benchmark new method NAME` writes a class with the usual "
        "ones, the docstring of cellular_bench.MethodSpec describes them.",
        run=_spec_is_sane,
    ),
    Check(
        check_id="runs",
        claim="it ends on 240 training cells and 120 others of three types in two batches.",
        hint="Mend the line named above. In Python: `from cellular_bench.benchmark.conformance import data`, "
        "`cells = data.simulate()`, then call your method on cells.train and cells.query.",
        run=promises.runs,
    ),
    Check(
        check_id="output_shape",
        claim="a run takes what it returns: one row or value per cell, in a form that the interface knows.",
        hint="Return arrays of n_obs rows: every cell that came in, filtered by nothing, and every gene in "
        "corrected expression. Set Prediction.labels to the names of the columns of label_proba.",
        run=promises.output_has_shape,
    ),
    Check(
        check_id="finite",
        claim="no NaN, no infinity and no missing label; weights of links are 0 or above.",
        hint="Guard divisions by zero and logarithms, and name every cell; raise NotApplicableError where "
        "there is no answer.",
        run=promises.output_is_finite,
    ),
    Check(
        check_id="probabilities",
        claim="label_proba has a named column per label, and rows that sum to 1.",
        hint="Name every column of label_proba once in Prediction.labels; divide scores by their sum.",
        run=promises.probabilities_add_up,
    ),
    Check(
        check_id="known_labels",
        claim="only labels of training cells are predicted.",
        hint="To decline, set Prediction.rejected and keep the best label in label_pred.",
        run=promises.labels_are_known,
    ),
    Check(
        check_id="novelty_given",
        claim="a method returns what its tasks are scored by, such as a novelty per cell for 'novelty'.",
        hint="Set Prediction.novelty, for example to 1 - the highest probability.",
        run=promises.scored_outputs_are_given,
    ),
    Check(
        check_id="beats_chance",
        claim="it tells apart three types that differ sixfold in 15 genes each.",
        hint="Look for rows in the wrong order, raw counts where log values are meant, or too few epochs.",
        run=promises.beats_chance,
    ),
    Check(
        check_id="cell_order",
        claim="rows come in the order of obs_names.",
        hint="Methods that work batch by batch return cells grouped by batch: put rows back by position.",
        run=promises.order_is_kept,
    ),
    Check(
        check_id="cell_names",
        claim="cells may have any names.",
        hint="Names are strings: do not parse them, and index by position.",
        run=promises.names_do_not_matter,
    ),
    Check(
        check_id="input_unchanged",
        claim="the data that it is given stay as they are.",
        hint="Work on a copy: many scanpy functions write to their input.",
        run=promises.input_is_unchanged,
    ),
    Check(
        check_id="random_state",
        claim="global random generators stay as they are.",
        hint="Use numpy.random.default_rng(seed); around a library that seeds, save and restore the state.",
        run=promises.generators_are_unchanged,
    ),
    Check(
        check_id="writes_nothing",
        claim="nothing is left in the working folder.",
        hint="Switch off logs and checkpoints, or write to a temporary folder.",
        run=promises.nothing_is_written,
    ),
    Check(
        check_id="seed_repeats",
        claim="the same seed gives the same result, whatever the state of the global generators.",
        hint="Pass the seed to every library that draws.",
        run=promises.seed_repeats,
    ),
    Check(
        check_id="labels_unused",
        claim="labels that the spec does not ask for change nothing.",
        hint='Declare labels="train" or "all", or do not read obs["label"] of these cells.',
        run=promises.hidden_labels_are_unused,
    ),
    Check(
        check_id="single_batch",
        claim="cells of one batch are no error, unless needs_batches says so.",
        hint="Set needs_batches=True and raise NotApplicableError, or return what needs no correction.",
        run=promises.single_batch_works,
    ),
    Check(
        check_id="rare_label",
        claim="a label with a single training cell is no error.",
        hint="Cross-validation and stratified splits fail on such labels: repeat the cell or fold less.",
        run=promises.rare_label_works,
    ),
)
