"""What a method under test returned and did, in the form in which a run takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from cellular_bench.benchmark.tasks import TASKS, Task
from cellular_bench.core.outputs import Outputs
from cellular_bench.core.types import MethodSpec


def tasks_of(spec: MethodSpec) -> list[Task]:
    """Return the tasks of a method that are known."""
    return [TASKS[name] for name in spec.tasks if name in TASKS]


def asked(spec: MethodSpec, *, fitted: bool) -> list[str]:
    """Return the functions that runs score: those of a fitted method, or those that embed at once."""
    tasks = [task for task in tasks_of(spec) if task.is_at_once(spec) != fitted]
    return list(dict.fromkeys(task.asked(spec) for task in tasks))


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A run of a method, and what it did beside returning something.

    Attributes
    ----------
    obs_names, var_names
        Cells that were asked about, and their genes.
    returned
        What each function returned that a run asks: ``embed`` or ``fit_embed``, ``predict``.
    fitted
        The instance that saw the training cells.
    input_changed
        Part of the input that was written to.
    generators_changed
        Global random generators that were left in another state.
    files
        What was left in the working folder.
    """

    spec: MethodSpec
    obs_names: Sequence[str]
    var_names: Sequence[str]
    returned: Mapping[str, Any]
    fitted: Any
    input_changed: str | None
    generators_changed: tuple[str, ...]
    files: tuple[str, ...]

    @cached_property
    def outputs(self) -> Outputs:
        """What was returned, checked and converted as in a run.

        Corrected expression stands for the embedding where it comes without one.

        Raises
        ------
        ContractError
            If a run would refuse it: :class:`NotFiniteError` where only its values are at fault.
        """
        found: dict[str, Any] = {}
        for task in tasks_of(self.spec):
            returned = self.returned[task.asked(self.spec)]
            outputs = task.read(self.spec.method_id, returned, self.obs_names, self.var_names)
            if outputs.X_emb is None and outputs.corrected is not None:
                outputs = replace(outputs, X_emb=outputs.corrected)
            found |= outputs.arrays()
        return Outputs.of(found)
