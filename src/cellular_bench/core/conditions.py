"""Conditions that an integration must keep: how a validated data set holds them, out of sight of methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.keys import BATCH, CONDITION, DONOR

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The conditions of cells.

    Attributes
    ----------
    names
        (n_conditions,) columns of the source.
    values
        (n_conditions, n_obs) condition of each cell.
    donor
        (n_obs,) independent units such as donors: the batches, unless the data set says otherwise.
    """

    names: NDArray[np.str_]
    values: NDArray[np.str_]
    donor: NDArray[np.str_]


def conditions_of(obs: pd.DataFrame) -> Conditions:
    """Return the conditions of the cells of a validated data set.

    Examples
    --------
    >>> import pandas as pd
    >>> found = conditions_of(pd.DataFrame({"batch": ["1", "2"], "condition:stim": ["no", "yes"]}))
    >>> found.names.tolist(), found.values.tolist(), found.donor.tolist()
    (['stim'], [['no', 'yes']], ['1', '2'])
    """
    columns = sorted(str(name) for name in obs.columns if str(name).startswith(CONDITION))
    values = [obs[name].to_numpy().astype(str) for name in columns]
    return Conditions(
        names=np.array([name.removeprefix(CONDITION) for name in columns], dtype=str),
        values=np.array(values, dtype=str).reshape(len(columns), len(obs)),
        donor=obs[DONOR if DONOR in obs else BATCH].to_numpy().astype(str),
    )
