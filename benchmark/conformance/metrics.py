"""The promises of a metric, checked on small simulated cells and outputs of known quality."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, partial
from typing import Any

import numpy as np

from cellular_bench.benchmark.conformance import data
from cellular_bench.benchmark.conformance.check import Check, demand, promise
from cellular_bench.benchmark.conformance.subject import SkippedError
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.errors import UndefinedError
from cellular_bench.core.keys import BATCH, LABEL
from cellular_bench.core.types import MetricSpec

#: Two values are equal within this share of the metric's range: sums are rounded in another order.
ROUNDING = 1e-6
#: The same where neighbours at equal distances may be distinguished by the order of the cells.
REORDERED = 0.05
_SHARE_WRONG = 0.15


METRIC_CHECKS: list[Check] = []
_promise = partial(promise, METRIC_CHECKS)


@dataclass
class MetricSubject:
    """The metric under test, and its value for a good output, computed once."""

    spec: MetricSpec

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """Arguments of the metric."""
        return inspect.signature(self.spec.function).parameters

    @cached_property
    def good(self) -> float | UndefinedError:
        """The value for a good output."""
        return self.value(example())

    def value(self, inputs: Mapping[str, Any]) -> float | UndefinedError:
        """Return the value for some inputs, as the harness computes it."""
        from cellular_bench.metrics import evaluate
        from cellular_bench.metrics.engine import DERIVED

        given = {*example(), *DERIVED, "n_jobs"}
        needed = [name for name, argument in self.parameters.items() if argument.default is argument.empty]
        if lacking := [name for name in needed if name not in given]:
            raise SkippedError(f"needs {', '.join(lacking)}, which the simulated runs lack")
        return evaluate([self.spec.metric_id], inputs)[self.spec.metric_id]

    @property
    def sound(self) -> float:
        """The value for a good output; checks that need one are skipped where there is none."""
        if isinstance(self.good, UndefinedError):
            raise SkippedError("needs a value, as of the check 'gives_a_number'")
        return self.good

    def far(self, one: float, other: float | UndefinedError) -> float:
        """Return how far two values lie apart, as a share of the range."""
        if isinstance(other, UndefinedError):
            return float("inf")
        return abs(one - other) / (self.spec.maximum - self.spec.minimum)


def known_inputs() -> tuple[str, ...]:
    """Return every argument that a metric may ask for."""
    from cellular_bench.metrics import METRICS
    from cellular_bench.metrics.engine import DERIVED

    shipped = [spec.function for spec in METRICS.values() if spec.function.__module__.startswith("cellular")]
    used = {name for function in shipped for name in inspect.signature(function).parameters}
    from_tasks = {name for task in TASKS.values() for name in task.known_inputs}
    return tuple(sorted(used | set(DERIVED) | from_tasks))


def example(*, quality: str = "good", seed: int = 0) -> dict[str, Any]:
    """Return the inputs of a run on 360 simulated cells.

    ``"good"``: an embedding of the types without the batches, and predictions of which nine in ten are
    right, less sure of wrong ones and of novel cells. ``"bad"``: an embedding of the batches alone,
    predictions and novelty at random, surest of novel cells.
    """
    generator = np.random.default_rng(seed)
    cells = data.simulate()
    label, batch = (
        np.concatenate([np.asarray(part.obs[key], dtype=str) for part in (cells.train, cells.query)])
        for key in (LABEL, BATCH)
    )
    names, codes = np.unique(label, return_inverse=True)
    batches = np.unique(batch, return_inverse=True)[1]
    is_novel = label == names[-1]
    shown = np.where(generator.random(label.size) < _SHARE_WRONG, generator.permutation(codes), codes)
    places = np.eye(len(names), 8)[codes] * 6.0
    sure = np.where(is_novel, 0.5, np.where(shown == codes, 0.9, 0.75))
    novelty = is_novel + generator.normal(scale=0.4, size=label.size)
    if quality == "bad":
        shown, places = generator.permutation(codes), np.eye(2, 8)[batches] * 12.0
        novelty, sure = generator.permutation(novelty), np.where(is_novel, 0.9, 0.5)
    noise = generator.normal(size=(label.size, 8))
    proba = np.tile((1 - sure[:, None]) / (len(names) - 1), (1, len(names)))
    proba[np.arange(label.size), shown] = sure
    before = np.eye(len(names), 8)[codes] * 6.0 + np.eye(2, 8, k=4)[batches] * 9.0
    return {
        "label": label,
        "batch": batch,
        "is_novel": is_novel,
        "X_pre": before + noise,
        "X_emb": places + noise,
        "X_emb_again": places + noise if quality == "good" else generator.permutation(places + noise),
        "stratum": label,
        "label_pred": names[shown],
        "label_proba": proba,
        "labels": names,
        "novelty": novelty,
        "rejected": generator.random(label.size) < (0.1 if quality == "good" else 0.6),
    }


@_promise(
    "inputs_known",
    claim="the names of its arguments are things that a run has.",
    hint="Rename the argument, or give it a default and derive it inside.",
)
def _inputs_are_known(subject: MetricSubject) -> None:
    known = known_inputs()
    for name in subject.parameters:
        close = get_close_matches(name, known, n=1)
        meant = f" Did you mean '{close[0]}'?" if close else ""
        demand(name in known, f"no run has '{name}'.{meant} Known: {', '.join(known)}.")


@_promise(
    "described",
    claim="a reader learns what it is, how it is computed and what fools it.",
    hint="Give a docstring with a section Notes, whose paragraphs begin 'Formula:' and 'Fooled by:', and "
    "a section Examples.",
)
def _is_described(subject: MetricSubject) -> None:
    from cellular_bench.metrics.cards import card_of

    demand(subject.spec.definition.strip(), "definition is empty.")
    missing = sorted(card_of(subject.spec).missing)
    demand(not missing, f"its docstring lacks {', '.join(missing)}.")


@_promise(
    "gives_a_number",
    claim="it has a finite value for a good output on 360 cells of three types in two batches.",
    hint="Call it on the inputs of cellular_bench.benchmark.conformance.metrics.example() yourself.",
)
def _gives_a_number(subject: MetricSubject) -> None:
    found = subject.good
    if isinstance(found, UndefinedError) and not found.by_output:
        raise SkippedError(f"the simulated cells permit no value: {found}")
    demand(not isinstance(found, UndefinedError), f"there is no value: {found}.")


@_promise(
    "range",
    claim="values lie between minimum and maximum.",
    hint="Correct minimum and maximum in @metric(...), or scale the value.",
)
def _stays_in_range(subject: MetricSubject) -> None:
    _ = subject.sound
    low, high = subject.spec.minimum, subject.spec.maximum
    slack = ROUNDING * (high - low)
    for quality in ("good", "bad"):
        found = subject.value(example(quality=quality))
        if not isinstance(found, UndefinedError):
            demand(
                low - slack <= found <= high + slack,
                f"{found:g} for a {quality} output, outside {low:g} to {high:g}.",
            )


@_promise(
    "direction",
    claim="a good output has a better value than a bad one.",
    hint="Turn higher_is_better, or look for arguments in the wrong order.",
)
def _tells_good_from_bad(subject: MetricSubject) -> None:
    good, bad = subject.sound, subject.value(example(quality="bad"))
    if isinstance(bad, UndefinedError):
        raise SkippedError(f"a bad output has no value: {bad}")
    better = good > bad if subject.spec.higher_is_better else good < bad
    word = "higher" if subject.spec.higher_is_better else "lower"
    demand(better, f"{good:.4g} for a good output and {bad:.4g} for a bad one, with {word} as better.")


@_promise(
    "cell_order",
    claim="the order of the cells does not matter.",
    hint="Do not rely on neighbours in the array, and draw no sample by position.",
)
def _order_does_not_matter(subject: MetricSubject) -> None:
    inputs = example()
    order = np.random.default_rng(1).permutation(len(inputs["label"]))
    moved = {name: array if name == "labels" else array[order] for name, array in inputs.items()}
    far = subject.far(subject.sound, subject.value(moved))
    demand(far <= REORDERED, f"in another order, the value moves by {far:.2g} of its range.")


@_promise(
    "label_names",
    claim="names of labels and batches do not matter.",
    hint="Compare names for equality only; do not sort values by them.",
)
def _names_do_not_matter(subject: MetricSubject) -> None:
    renamed = dict(example())
    for name in ("label", "label_pred", "labels", "batch"):
        renamed[name] = np.char.add("the ", renamed[name])
    far = subject.far(subject.sound, subject.value(renamed))
    demand(far <= ROUNDING, f"with other names of labels and batches, it moves by {far:.2g} of its range.")


@_promise(
    "pure",
    claim="it changes nothing, and gives the same value again.",
    hint="Work on copies, and create a seeded generator inside: numpy.random.default_rng(0).",
)
def _inputs_stay(subject: MetricSubject) -> None:
    _ = subject.sound
    inputs, before = example(), example()
    state = _global_state()
    again = subject.value(inputs)
    changed = [name for name in inputs if not np.array_equal(inputs[name], before[name])]
    demand(not changed, f"it wrote to {', '.join(changed)}.")
    demand(subject.far(subject.sound, again) == 0, "a second time, the value is another.")
    demand(np.array_equal(state, _global_state()), "the global generator of numpy moved.")


def _global_state() -> Any:
    return np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002 - the state that is watched
