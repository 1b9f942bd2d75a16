"""What a user writes for the weights of aspects: the name of a rule, or a number for each aspect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from cellular_bench.core.errors import UserError
from cellular_bench.core.types import AspectId

#: The name of a rule of a task, or the weight of each aspect; aspects that are not named weigh 0.
Weights = str | dict[AspectId, float]
#: Weights may be written with few digits, such as 0.333333 for a third.
ROUNDING: Final = 1e-5


class WeightsError(UserError, ValueError):
    """Weights that make no overall score; a ``ValueError``, so that models name the field."""


def read_weights(given: Any) -> Weights:
    """Read weights as a user gives them: a name, ``ASPECT=NUMBER,...``, or a mapping of numbers.

    Whether a task has this rule or these aspects is not checked, see
    :func:`cellular_bench.benchmark.tasks.check_weights`.

    Raises
    ------
    WeightsError
        If a weight is no number, is negative, or they do not add up to 1.

    Examples
    --------
    >>> read_weights("scIB"), read_weights("batch_correction=.3,bio_conservation=.7")
    ('scib', {'batch_correction': 0.3, 'bio_conservation': 0.7})
    """
    if isinstance(given, str):
        if "=" not in given and "," not in given and given.strip():
            return given.strip().lower()
        given = _pairs(given)
    if not isinstance(given, Mapping):
        raise WeightsError(f"{given!r} is neither the name of a rule nor a number for each aspect.")
    weights = {str(aspect): _number(aspect, value) for aspect, value in given.items()}
    check_numbers(weights)
    return weights


def check_numbers(weights: Mapping[AspectId, float]) -> None:
    """Refuse weights that are negative or do not add up to 1.

    Raises
    ------
    WeightsError
        If they do not.
    """
    for aspect, weight in weights.items():
        if not weight >= 0:
            raise WeightsError(f"The weight of {aspect} is {weight:g}; it must be 0 or more.")
    total = sum(weights.values())
    if not abs(total - 1) <= ROUNDING:
        raise WeightsError(f"The weights {weights_text(weights)} do not add up to 1, but to {total:.6g}.")


def weights_text(weights: Mapping[AspectId, float]) -> str:
    """Write weights as :func:`read_weights` reads them.

    Examples
    --------
    >>> weights_text({"batch_correction": 0.3, "bio_conservation": 0.7})
    'batch_correction=0.3,bio_conservation=0.7'
    """
    return ",".join(f"{aspect}={weight:.12g}" for aspect, weight in weights.items())


def _pairs(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in text.split(","):
        aspect, equals, number = (word.strip() for word in part.partition("="))
        if not (aspect and equals and number):
            raise WeightsError(
                f"'{text}' is neither the name of a rule, such as scib, nor of the form ASPECT=NUMBER,..., "
                "such as batch_correction=0.3,bio_conservation=0.4,structure=0.3."
            )
        if aspect in pairs:
            raise WeightsError(f"'{text}' names {aspect} twice.")
        pairs[aspect] = number
    return pairs


def _number(aspect: object, value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise WeightsError(f"The weight of {aspect} is {value!r}, which is no number.")
    return number
