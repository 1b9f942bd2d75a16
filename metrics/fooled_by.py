"""What canary embeddings gain on each metric, as measured: the data behind *Measured* on the cards.

``data/fooled_by.csv`` is written by ``benchmarks/fooled_by.py``, with a line per data set and metric and a
column per canary embedding.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cellular_bench.core.types import MetricSpec

#: A canary that gains more than this over the undamaged method, on the metric's own range, fools the metric.
LEAST_GAIN: Final = 0.02
#: Written by a script.
FILE: Final = Path(__file__).parent / "data" / "fooled_by.csv"
#: The columns before those of the canaries.
KEYS: Final = ("data", "metric_id", "version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What canary embeddings gain on one metric and data set.

    Attributes
    ----------
    data
        Name of the data set.
    metric_id, version
        The metric, and the version of it that was measured.
    gains
        By the short name of the canary: its score minus that of the undamaged method, on the metric's own
        range. Without those that have no value.
    """

    data: str
    metric_id: str
    version: int
    gains: Mapping[str, float]

    @property
    def fooled_by(self) -> tuple[str, ...]:
        """The canaries that fool the metric, the largest gain first."""
        fooling = [name for name, gain in self.gains.items() if is_fooled(gain)]
        return tuple(sorted(fooling, key=lambda name: -self.gains[name]))

    def __str__(self) -> str:
        found = ", ".join(f"{name} ({self.gains[name]:+.2f})" for name in self.fooled_by)
        return f"on {self.data} by {found or f'none of {len(self.gains)}'}"


def is_fooled(gain: float | None) -> bool:
    """Return whether a canary gains so much that it fools a score.

    Examples
    --------
    >>> is_fooled(0.021), is_fooled(0.02), is_fooled(-0.5), is_fooled(None)
    (True, False, False, False)
    """
    return gain is not None and gain > LEAST_GAIN


@functools.cache
def measured() -> tuple[Measured, ...]:
    """Return all that was measured, by data set and metric."""
    return read(FILE.read_text(encoding="utf-8").splitlines())


def read(lines: Iterable[str]) -> tuple[Measured, ...]:
    """Read the lines of the file.

    Examples
    --------
    >>> read(["data,metric_id,version,islands,collapsed", "Baron,clisi,2,0.03,"])[0]
    Measured(data='Baron', metric_id='clisi', version=2, gains={'islands': 0.03})
    """
    found = []
    for row in csv.DictReader(lines):
        gains = {name: float(value) for name, value in row.items() if name not in KEYS and value}
        found.append(
            Measured(data=row["data"], metric_id=row["metric_id"], version=int(row["version"]), gains=gains)
        )
    return tuple(found)


def measured_of(spec: MetricSpec) -> tuple[Measured, ...]:
    """Return what was measured of a metric in its present version."""
    return tuple(one for one in measured() if (one.metric_id, one.version) == (spec.metric_id, spec.version))
