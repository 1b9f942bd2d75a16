"""What a method under test returned and did, in the form in which a run takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from cellular_bench.core.outputs import Outputs, checked_integration, checked_prediction
from cellular_bench.core.types import Corrected, MethodSpec


def embeds(spec: MethodSpec) -> bool:
    """Tell whether a method can be asked for an embedding."""
    return "integration" in spec.tasks


def predicts(spec: MethodSpec) -> bool:
    """Tell whether a method can be asked for labels or novelty."""
    return bool({"annotation", "novelty"} & set(spec.tasks))


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A run of a method, and what it did beside returning something.

    Attributes
    ----------
    obs_names, var_names
        Cells that were asked about, and their genes.
    returned, prediction
        What ``embed`` or ``fit_embed``, and ``predict``, returned; None where not asked for.
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
    returned: Any
    prediction: Any
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
        method_id = self.spec.method_id
        if embeds(self.spec):
            integrated = checked_integration(method_id, self.returned, self.obs_names, self.var_names)
            if isinstance(self.returned, Corrected) and self.returned.X_emb is None:
                integrated = replace(integrated, X_emb=integrated.corrected)
            found |= integrated.arrays()
        if predicts(self.spec):
            found |= checked_prediction(method_id, self.prediction, self.obs_names).arrays()
        return Outputs(**found)
