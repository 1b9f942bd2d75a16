r"""Agreement of predictions with labels that they cannot know, and its exact chance.

If labels are assigned to cells at random, their agreement with fixed predictions depends only on how many
of the :math:`n` cells have each name: :math:`a_c` as label and :math:`b_c` as prediction. With
:math:`s = \sum_c a_c b_c`, the number of cells that agree, :math:`M`, has

.. math::
    \operatorname{E} M = \frac{s}{n}, \qquad
    \operatorname{Var} M = \frac{1}{n - 1} \Bigl(s - \frac{1}{n} \sum_c a_c b_c (a_c + b_c)
    + \frac{s^2}{n^2}\Bigr),

the moments of a random assignment (Hoeffding 1951, https://doi.org/10.1214/aoms/1177729545), which are
those of kappa (Everitt 1968, https://doi.org/10.1111/j.2044-8317.1968.tb00400.x). The tail is computed
exactly, with the rook numbers :math:`r_k` of the blocks of equal names (Kaplansky and Riordan 1946, Duke Math
J 13, 259-268):

.. math::
    \sum_k r_k x^k = \prod_c \sum_k \binom{a_c}{k} \binom{b_c}{k} k! \, x^k, \qquad
    P(M \ge m) = \sum_{k \ge m} (-1)^{k - m} \binom{k - 1}{m - 1} \frac{r_k (n - k)!}{n!}.

A normal tail would flag honest methods: with few expected matches, the distribution is close to Poisson's,
whose tail is much heavier.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: Agreement that is less probable by chance is a leak. Of a million honest methods, one is suspected.
LEAK_P: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How many of some cells are predicted as labelled, and what chance gives.

    Attributes
    ----------
    n_cells, n_matches
        Cells, and those that agree.
    mean, std
        Mean and standard deviation of the number that agree by chance.
    p_value
        Probability of that many or more by chance.
    """

    n_cells: int
    n_matches: int
    mean: float
    std: float
    p_value: float

    @property
    def share(self) -> float:
        """Share of the cells that agree: the accuracy."""
        return self.n_matches / self.n_cells

    @property
    def chance(self) -> float:
        """Share that agrees by chance."""
        return self.mean / self.n_cells

    @property
    def is_leak(self) -> bool:
        """True if chance does not explain the agreement."""
        return self.p_value < LEAK_P


def agreement(counts: Mapping[str, Mapping[str, int]]) -> Agreement:
    """Return the agreement in a confusion matrix, ``{label: {prediction: cells}}``.

    Examples
    --------
    >>> found = agreement({"alpha": {"alpha": 30}, "beta": {"beta": 30}})
    >>> found.n_matches, found.mean, f"{found.p_value:.1e}"
    (60, 30.0, '8.5e-18')
    >>> agreement({"alpha": {"beta": 30}, "beta": {"beta": 30}}).p_value  # a constant has no other outcome
    1.0
    """
    labels = Counter({name: sum(row.values()) for name, row in counts.items()})
    predicted: Counter[str] = Counter()
    for row in counts.values():
        predicted.update(row)
    n_cells = labels.total()
    pairs = [(n, predicted[name]) for name, n in labels.items() if predicted[name]]
    n_matches = sum(row.get(name, 0) for name, row in counts.items())
    both = sum(a * b for a, b in pairs)
    spread = both - sum(a * b * (a + b) for a, b in pairs) / n_cells + both**2 / n_cells**2
    return Agreement(
        n_cells=n_cells,
        n_matches=n_matches,
        mean=both / n_cells,
        std=math.sqrt(max(spread, 0.0) / max(n_cells - 1, 1)),
        p_value=_tail(pairs, n_cells, n_matches),
    )


def _tail(pairs: list[tuple[int, int]], n_cells: int, n_matches: int) -> float:
    """Return the probability of at least so many matches, in whole numbers up to the last division."""
    if n_matches == 0:
        return 1.0
    rooks = [1]
    for a, b in pairs:
        block = [math.comb(a, k) * math.perm(b, k) for k in range(min(a, b) + 1)]
        product = [0] * (len(rooks) + len(block) - 1)
        for i, one in enumerate(rooks):
            for k, other in enumerate(block):
                product[i + k] += one * other
        rooks = product
    ways = 0
    for k in range(n_matches, len(rooks)):
        placed = math.comb(k - 1, n_matches - 1) * rooks[k] * math.factorial(n_cells - k)
        ways += placed if (k - n_matches) % 2 == 0 else -placed
    return ways / math.factorial(n_cells)
