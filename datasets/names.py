"""Names of data sets, which are part of file names and of rows of tables."""

from __future__ import annotations

import re

from cellular_bench.core.errors import UserError


def check_name(dataset_id: object) -> None:
    """Check the name of a data set.

    Raises
    ------
    UserError
        If it is not text of lower-case letters, digits and underscores.

    Examples
    --------
    >>> check_name("lung_atlas")
    """
    if not isinstance(dataset_id, str) or not re.fullmatch(r"[a-z0-9_]+", dataset_id):
        raise UserError(
            f"Data set names are made of lower-case letters, digits and underscores, got: {dataset_id!r}."
        )
