"""Names of data sets: they are part of the names of files and of rows of tables."""

from __future__ import annotations

import re

from cellular_bench.core.errors import UserError


def check_name(dataset_id: object) -> None:
    """Refuse what cannot be the name of a data set.

    Raises
    ------
    UserError
        If it is not made of lower-case letters, digits and underscores.

    Examples
    --------
    >>> check_name("lung_atlas")
    """
    if not isinstance(dataset_id, str) or not re.fullmatch(r"[a-z0-9_]+", dataset_id):
        raise UserError(
            f"Data set names are made of lower-case letters, digits and underscores, got: {dataset_id!r}."
        )
