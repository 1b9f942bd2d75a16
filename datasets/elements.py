"""Read AnnData element by element, so that one that cannot be read does not take the others with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: Places whose entries can be left out.
_PLACES = ("layers", "obsm", "varm", "obsp", "varp", "uns")


def read_elements(group: Any) -> tuple[AnnData, dict[str, str]]:
    """Read AnnData from an open HDF5 file or zarr store.

    Returns
    -------
    adata
        All that can be read.
    left_out
        What cannot be read, such as ``uns['model']``, and why.

    Raises
    ------
    Exception
        If ``X``, or the names of cells or genes, cannot be read.
    """
    from anndata import AnnData
    from anndata.io import read_elem

    left_out: dict[str, str] = {}
    obs, var = (read_table_of(group, name, left_out) for name in ("obs", "var"))
    adata = AnnData(read_elem(group["X"]) if "X" in group else None, obs=obs, var=var)
    for place in _PLACES:
        for key in group.get(place, ()):
            try:
                getattr(adata, place)[key] = read_elem(group[place][key])
            except Exception as error:
                left_out[f"{place}['{key}']"] = reason_of(error)
    if "raw" in group and "X" in getattr(group["raw"], "keys", list)():  # else it is written as nothing
        try:
            raw_var = read_table_of(group["raw"], "var", left_out, shown="raw.var")
            adata.raw = AnnData(read_elem(group["raw"]["X"]), obs=obs[[]], var=raw_var)
        except Exception as error:
            left_out["raw"] = reason_of(error)
    return adata, left_out


def read_table_of(group: Any, name: str, left_out: dict[str, str], *, shown: str = "") -> pd.DataFrame:
    """Read ``obs`` or ``var`` without the columns that cannot be read; these go into ``left_out``."""
    import pandas as pd
    from anndata.io import read_elem

    table = group[name]
    columns = {}
    for title in map(str, table.attrs["column-order"]):
        try:
            columns[title] = read_elem(table[title])
        except Exception as error:
            left_out[f"{shown or name}['{title}']"] = reason_of(error)
    index_title = str(table.attrs["_index"])
    index = pd.Index(read_elem(table[index_title]), name=None if index_title == "_index" else index_title)
    return pd.DataFrame(columns, index=index)


def reason_of(error: Exception) -> str:
    """Return the first line of an error of another library."""
    text = str(error).strip().splitlines() or [type(error).__name__]
    return text[0].rstrip(".")
