"""Write h5ad files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData


def write_h5ad(adata: AnnData, path: Path | str, **options: Any) -> None:
    """Write text as plain arrays of strings, which older versions of anndata and other programs can read.

    With pandas 3, anndata would write all text in the format for text with missing values.
    """
    import anndata
    import pandas as pd

    columns = (table[name].array for table in (adata.obs, adata.var) for name in table)
    strings = [array for array in columns if isinstance(array.dtype, pd.StringDtype)]
    # With pandas 2, all text is plain but that of this type, which then cannot be written as plain text.
    by_default = isinstance(pd.Index(["text"]).dtype, pd.StringDtype)
    needed = any(array.isna().any() for array in strings) if by_default else bool(strings)
    with anndata.settings.override(allow_write_nullable_strings=needed):
        adata.write_h5ad(path, **options)
