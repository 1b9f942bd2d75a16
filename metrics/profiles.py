"""Profiles: which approximations an evaluation may make; and a record of those that it made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cellular_bench.core.errors import UnknownNameError
from cellular_bench.core.types import ProfileName


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Approximations that an evaluation may make.

    Attributes
    ----------
    name
        ``fast``, ``standard`` or ``full``.
    exact_cells
        With more cells than this, neighbours are searched approximately and silhouettes averaged over a
        sample, because the time of exact ones grows with the square of the cells. None: always exact.
    sample_cells
        Cells in that sample, drawn from every label and batch in proportion.
    graph_cells
        With more cells than ``exact_cells``, metrics on communities and within labels (``on_sample``) are
        computed on a sample of this number of cells. None: on all cells.
    seed
        Seed of the samples and of the approximate search.
    """

    name: ProfileName
    exact_cells: int | None
    sample_cells: int = 5_000
    graph_cells: int | None = None
    seed: int = 0

    def samples(self, n_obs: int) -> bool:
        """Return whether a number of cells is too large for exact values."""
        return self.exact_cells is not None and n_obs > self.exact_cells


#: Every profile by name. At 100,000 cells the approximate search takes a third of the time of the exact one
#: (docs/performance.md).
PROFILES: Mapping[ProfileName, Profile] = MappingProxyType(
    {
        "fast": Profile(name="fast", exact_cells=100_000, graph_cells=100_000),
        "standard": Profile(name="standard", exact_cells=500_000, sample_cells=20_000),
        "full": Profile(name="full", exact_cells=None),
    }
)
FULL = PROFILES["full"]
#: Quantities that a profile approximates.
APPROXIMATED = ("neighbors", "silhouettes", "cells")
#: What the data do not allow, for any method: labels and types that do not count, and what chance scores.
LIMITS_OF_DATA = frozenset({"labels", "types", "chance"})


def profile_of(name: str | Profile) -> Profile:
    """Return a profile by its name.

    Raises
    ------
    UnknownNameError
        If no profile has this name.

    Examples
    --------
    >>> profile_of("fast").exact_cells
    100000
    """
    if isinstance(name, Profile):
        return name
    chosen = next((profile for known, profile in PROFILES.items() if known == name), None)
    if chosen is None:
        raise UnknownNameError("profile", name, PROFILES)
    return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut:
    """One approximation in an evaluation, or choice among equals.

    Attributes
    ----------
    quantity
        Approximated quantity: ``neighbors``, ``silhouettes``, or ``cells`` if only a sample was evaluated.
        What the embedding leaves open, under any profile: ``ties`` if neighbours were drawn among cells at
        the same distance, ``parts`` if cells of small parts of a graph have too few. What the data leave
        open: ``labels`` if some do not count for the state of cells, ``types`` if some are not compared,
        ``chance`` if permuted cells are arranged well, too.
    description
        The method, in a sentence.
    library
        Library of the algorithm, with its version; None for this package.
    figures
        Settings and measures of quality, such as a seed and the recall of neighbours on a sample of cells.
    metric_ids
        Metrics that depend on it.
    """

    quantity: str
    description: str
    library: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    metric_ids: tuple[str, ...] = ()
