"""What the leak canary of a board found: which methods know labels that they were not shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cellular_bench.benchmark.analysis.agreement import Agreement, agreement
from cellular_bench.benchmark.schema.records import MethodIdentity, RunRecord

Verdict = Literal["passed", "flagged", "no power", "no answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakCanary:
    """The leak canary of a board.

    Attributes
    ----------
    by_method
        Agreement with permuted labels of each method that was tested, by its ``method_key``.
    unanswered
        Methods whose run on the canary did not end well.
    control
        Agreement of a control that is shown the labels; None if there is none.
    """

    by_method: Mapping[str, Agreement]
    unanswered: frozenset[str]
    control: Agreement | None

    @property
    def has_power(self) -> bool:
        """True if a method that knows every label would be flagged."""
        return self.control is not None and self.control.is_leak

    @property
    def flagged(self) -> tuple[str, ...]:
        """Methods that agree beyond chance, the highest agreement first."""
        leaks = [key for key, found in self.by_method.items() if found.is_leak]
        return tuple(sorted(leaks, key=lambda key: -self.by_method[key].share))

    def verdict(self, key: str) -> Verdict | None:
        """Return what was found of a method; None if it was not tested."""
        if key in self.unanswered:
            return "no answer"
        if key not in self.by_method:
            return None
        if self.by_method[key].is_leak:
            return "flagged"
        return "passed" if self.has_power else "no power"


def leak_canary(
    records: Sequence[RunRecord], methods: Sequence[MethodIdentity], key_of: Callable[[MethodIdentity], str]
) -> LeakCanary | None:
    """Judge the runs of the canary of a board; None without any.

    Parameters
    ----------
    records
        Runs of the canary. Of several of one method, such as of two versions of a package, the last counts.
    methods
        Those of the board.
    key_of
        Names a method as the rows of boards do.
    """
    if not records:
        return None
    controls = [agreement(run.confusion) for run in records if run.method.is_control and run.status == "ok"]
    last: dict[str, RunRecord] = {}
    for run in sorted(records, key=lambda run: run.finished_at):
        short = run.canary_of.params if run.canary_of else {}
        for method in methods:
            learning = method.model_copy(update={"params": {**method.params, **short}})
            if not method.is_control and key_of(learning) == key_of(run.method):
                last[key_of(method)] = run
    return LeakCanary(
        by_method={key: agreement(run.confusion) for key, run in last.items() if run.status == "ok"},
        unanswered=frozenset(key for key, run in last.items() if run.status != "ok"),
        control=min(controls, key=lambda found: found.p_value, default=None),
    )
