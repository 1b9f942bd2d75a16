"""Tables whose first column holds names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def boxed(name: str) -> tuple[str]:
    """Return a name as a tuple: pandas would turn text such as 007 into 7, and NA into a missing value."""
    return (name,)


def read_named(path: Path, **options: Any) -> pd.DataFrame:
    """Read a table of which the first column, the index of the result, holds names: they keep their spelling.

    Parameters
    ----------
    path
        File.
    options
        Further arguments of :func:`pandas.read_csv`.
    """
    import pandas as pd

    table = pd.read_csv(path, converters={0: boxed}, **options)
    names = [name for (name,) in table.iloc[:, 0]]
    return table.iloc[:, 1:].set_axis(pd.Index(names, dtype=object, name=table.columns[0]))
