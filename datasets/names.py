"""Names of data sets, which are part of file names and of rows of tables."""

from __future__ import annotations

import re

from cellular_bench.core.errors import UserError


def check_name(dataset_id: object) -> None:
    """Check the name of a data set.

    Raises
    ------
    UserError
        If it is not text of at most 100 lower-case letters, digits and underscores.

    Examples
    --------
    >>> check_name("lung_atlas")
    """
    if not isinstance(dataset_id, str) or not re.fullmatch(r"[a-z0-9_]{1,100}", dataset_id):
        raise UserError(
            "Data set names are made of at most 100 lower-case letters, digits and underscores, got: "
            f"{dataset_id!r:.200}."
        )
