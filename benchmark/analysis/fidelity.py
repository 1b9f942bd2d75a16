"""How much methods that are reimplemented here agree with the originals, as it was measured.

The figures are in ``methods/data/fidelity.csv``; ``tests/methods/test_fidelity.py`` keeps them true.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from cellular_bench.benchmark import registry

if TYPE_CHECKING:
    from cellular_bench.benchmark.schema.records import MethodIdentity


#: What a row can say, the best first.
VERDICTS: Final = ("equal", "within seeds", "differs", "not compared")
#: Measures of agreement, as a person reads them.
MEASURES: Final[Mapping[str, str]] = {
    "labels": "share of equal labels",
    "neighbours": "share of common nearest neighbours",
    "spearman": "rank correlation",
    "difference": "largest difference",
    "scores": "largest difference of scores",
}
#: Measures that are 0 where both agree; the others are then 1.
DISTANCES: Final = frozenset({"difference", "scores"})
#: Data of the comparisons, see ``docs/methods/README.md``.
DATA: Final = ("baron", "pbmc", "mix", "small")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Our method beside the original on the same cells.

    Attributes
    ----------
    original
        Name and version of the code that was run, and the settings where they matter.
    data, measure
        Of :data:`DATA` and :data:`MEASURES`; empty where nothing was compared.
    agreement
        Lowest and highest agreement of ours with the original, over pairs of seeds.
    original_agreement
        The same of the original with itself under other seeds; None if it is deterministic or unmeasured.
    verdict
        One of :data:`VERDICTS`.
    why
        The cause of a difference, or what else a reader should know.
    """

    method_id: str
    original: str
    data: str
    measure: str
    agreement: tuple[float, float] | None
    original_agreement: tuple[float, float] | None
    n_seeds: int
    n_original_seeds: int
    verdict: str
    why: str

    @property
    def figures(self) -> str:
        """The agreement in words: ``"0.900 to 0.920 on pbmc (original by seed 0.904)"``."""
        if self.agreement is None:
            return ""
        by_seed = f" (original by seed {self._range(self.original_agreement)})"
        return f"{self._range(self.agreement)} on {self.data}{by_seed if self.original_agreement else ''}"

    def _range(self, ends: tuple[float, float] | None) -> str:
        digits = "{:.1g}" if self.measure in DISTANCES else "{:.3f}"
        return " to ".join(dict.fromkeys(digits.format(end) for end in ends or ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """All comparisons of a method with the original."""

    comparisons: tuple[Comparison, ...]

    @property
    def verdict(self) -> str:
        """The worst verdict; ``", in part"`` follows where a part of the method was not compared."""
        found = {comparison.verdict for comparison in self.comparisons}
        compared = found - {"not compared"}
        if not compared:
            return "not compared"
        return max(compared, key=VERDICTS.index) + (", in part" if compared != found else "")

    @property
    def figures(self) -> tuple[str, ...]:
        """All figures in words, a text for each original that was run."""
        made = [c for c in self.comparisons if c.agreement is not None]
        originals = dict.fromkeys(c.original for c in made)
        return tuple(f"{name}: {_by_measure(c for c in made if c.original == name)}" for name in originals)

    @property
    def why(self) -> str:
        """What is to be known of the figures, each sentence once."""
        return " ".join(dict.fromkeys(c.why for c in self.comparisons if c.why))

    def as_json(self) -> dict[str, Any]:
        """Return the verdict, and all comparisons as in the file."""
        return {"verdict": self.verdict, "comparisons": [asdict(c) for c in self.comparisons]}

    @property
    def text(self) -> str:
        """Verdict, figures and reasons in a few sentences."""
        return " ".join(filter(None, (*(f"{part}." for part in (self.verdict, *self.figures)), self.why)))


def _by_measure(comparisons: Iterable[Comparison]) -> str:
    groups = groupby(sorted(comparisons, key=_place), key=lambda c: c.measure)
    return "; ".join(f"{MEASURES[name]} {', '.join(c.figures for c in group)}" for name, group in groups)


def _place(comparison: Comparison) -> tuple[int, int]:
    return list(MEASURES).index(comparison.measure), DATA.index(comparison.data)


def agreement_of(method_id: str) -> Agreement | None:
    """Return the agreement of a method with the original; None for what has none.

    A variant of a reimplemented method has that of the method that it varies.
    """
    found = agreements().get(method_id)
    spec = registry.built_in_specs().get(method_id)
    if found is None and spec is not None and spec.is_reimplementation and spec.variant_of is not None:
        return agreement_of(spec.variant_of)
    return found


def agreement_of_run(method: MethodIdentity) -> Agreement | None:
    """Return the agreement of a method as it ran; None for another version, and for a plug-in."""
    spec = registry.built_in_specs().get(method.method_id)
    if spec is None or spec.version != method.version or method.source_digest is not None:
        return None
    return agreement_of(method.method_id)


@cache
def agreements() -> Mapping[str, Agreement]:
    """Return all measured agreements by ``method_id``."""
    rows = defaultdict(list)
    path = files("cellular_bench.methods") / "data" / "fidelity.csv"
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        rows[row["method_id"]].append(_comparison(row))
    return {method_id: Agreement(comparisons=tuple(found)) for method_id, found in rows.items()}


def _comparison(row: Mapping[str, str]) -> Comparison:
    return Comparison(
        method_id=row["method_id"],
        original=row["original"],
        data=row["data"],
        measure=row["measure"],
        agreement=_ends(row["agreement_low"], row["agreement_high"]),
        original_agreement=_ends(row["original_low"], row["original_high"]),
        n_seeds=int(row["n_seeds"] or 0),
        n_original_seeds=int(row["n_original_seeds"] or 0),
        verdict=row["verdict"],
        why=row["why"],
    )


def _ends(low: str, high: str) -> tuple[float, float] | None:
    return (float(low), float(high)) if low and high else None
